"""The operator as a process with exactly the rights that its chart grants, for tests."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlhf_harness import Cluster, kwok
from rlhf_harness.building import ensure_built
from rlhf_harness.commands import run
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.waiting import answers, until
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "rlhf-operator"
CRD = ROOT / "crds" / "rlhf.dev_rlhfruns.yaml"
NAMESPACE = "rlhf-system"

POOLS: Mapping[str, Any] = {
    "played": {"nodeSelector": kwok.SELECTOR, "tolerations": [kwok.TOLERATION]},
    "real": {"gpusPerNode": 8, "nodeSelector": {"rlhf.test/real": "yes"}},
    "cpu": {"nodeSelector": {"rlhf.test/real": "yes"}},
    "rdma": {"nodeSelector": {"rlhf.test/real": "yes"}, "hostNetwork": True},
    "small": {
        "nodeSelector": {"rlhf.test/real": "yes"},
        "extraResources": {"memory": "64Mi"},
    },
    "nowhere": {"nodeSelector": {"no-node": "has-this"}},
}


def serve_runs(kubernetes: Kubernetes) -> None:
    """Install the definition of RLHFRuns."""
    kubernetes.apply(CRD)

    def known() -> bool:
        try:
            kubernetes.get("rlhfruns", "-A")
        except CommandError:
            return False
        return True

    until(known, "RLHFRuns to be served", every_seconds=0.2)


def chart(cluster: Cluster, release: str, values: Mapping[str, Any], folder: Path) -> list[Any]:
    """Return the chart's manifests."""
    ensure_built(cluster.tools, "helm")
    file = folder / f"{release}-values.json"
    file.write_text(json.dumps({"image": "none", "trainerImage": cluster.image, **values}))
    helm = cluster.tools.path("helm")
    version = f"--kube-version={cluster.tools.version('k8s.io/kubernetes')}"
    where = (release, str(CHART), "--namespace", NAMESPACE, version)
    text = run([helm, "template", *where, "-f", str(file)])
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


@dataclass
class OperatorProcess:
    """One operator, running here as the service account of its release."""

    cluster: Cluster
    release: str
    folder: Path
    namespaces: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None)
    account: Kubernetes | None = field(default=None)
    program: tuple[str, ...] = ("-m", "rlhf_operator.main")
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    replica: str = ""
    restarts: int = 0

    @property
    def user(self) -> str:
        """Its name in the audit log."""
        return f"system:serviceaccount:{NAMESPACE}:{self.release}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.release}{self.replica}.log"

    def install(self) -> None:
        """Grant the chart's rights."""
        kubernetes = self.cluster.kubernetes
        kubernetes.namespace(NAMESPACE)
        values = {"namespaces": list(self.namespaces), "pools": POOLS}
        for manifest in chart(self.cluster, self.release, values, self.folder):
            if manifest["kind"] == "ConfigMap":
                self._write_pools(manifest["data"])
            elif manifest["kind"] != "Deployment":
                kubernetes.apply(manifest)

    def start(self) -> None:
        """Start it and return when it leads and follows the cluster."""
        self.begin()
        until(
            lambda: self._is_ready() and self.leads(),
            lambda: f"the operator: {self.tail()}",
            timeout_seconds=60,
        )

    def begin(self) -> None:
        """Start it and return at once."""
        if self.account is None:
            self.account = self.cluster.kubernetes.service_account(NAMESPACE, self.release)
        self.port = self.port or _free_port()
        argv = [
            *(sys.executable, *self.program, "--host=127.0.0.1"),
            *(f"--port={self.port}", f"--pools={self.folder / 'pools'}"),
            f"--image={self.cluster.image}",
            *(f"--lease-namespace={NAMESPACE}", f"--lease-name={self.release}"),
            *self.options,
            *(f"--namespace={name}" for name in self.namespaces),
        ]
        own = {"KUBECONFIG": str(self.account.kubeconfig), **self.environment}
        environment = {**os.environ, **own}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=environment, stderr=log, stdout=log)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    def kill(self) -> None:
        """End it without asking; its successor does not wait for its lease to run out."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.drop_lease()

    def beside(self, replica: str, **changes: Any) -> "OperatorProcess":
        """Return another process of the same release, not started yet."""
        return replace(self, replica=f"-{replica}", port=0, process=None, **changes)

    def tend(self) -> None:
        """Start it again if it has ended, as a kubelet would."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.restarts += 1
            self.begin()

    def drop_lease(self) -> None:
        """Take the lease from whoever holds it."""
        lease = ("lease", self.release, "-n", NAMESPACE, "--ignore-not-found")
        self.cluster.kubernetes.kubectl("delete", *lease)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def page(self, path: str) -> str:
        """Return a page of its endpoint."""
        return self.answer(path)[1]

    def answer(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of its endpoint."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def is_serving(self) -> bool:
        """Whether it answers at all."""
        try:
            return bool(self.answer("/healthz"))
        except OSError:
            return False

    def leads(self) -> bool:
        """Whether it is the one that works."""
        return self.is_serving() and "rlhf_operator_leads 1.0" in self.page("/metrics")

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.tail()
        return answers(f"http://127.0.0.1:{self.port}/readyz")

    def _write_pools(self, data: Mapping[str, str]) -> None:
        folder = self.folder / "pools"
        folder.mkdir(exist_ok=True)
        for name, text in data.items():
            (folder / name).write_text(text, encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
