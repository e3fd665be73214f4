"""The programs of a cluster, built from the Go modules pinned in `tests/tools/go.mod`.

They are built once per pin into a cache outside the tree, in sets: tests that need only a control
plane do not wait for a container runtime. This module decides what a set holds and where it lies;
`building` runs the compiler.
"""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from rlhf_harness.errors import HarnessError

TOOLS = Path(__file__).resolve().parents[2] / "tools"
"""The Go module with the pins of the cluster; Prometheus has one of its own below it."""

_KUBERNETES = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_PROMETHEUS = "github.com/prometheus/prometheus/cmd"

SETS: dict[str, dict[str, str]] = {
    "core": {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": f"{_KUBERNETES}/kube-apiserver",
        "kube-controller-manager": f"{_KUBERNETES}/kube-controller-manager",
        "kube-scheduler": f"{_KUBERNETES}/kube-scheduler",
        "kubectl": f"{_KUBERNETES}/kubectl",
        "training-operator": "github.com/kubeflow/training-operator/cmd/training-operator.v1",
    },
    "kwok": {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    "node": {
        "containerd": f"{_CONTAINERD}/containerd",
        "containerd-shim-runc-v2": f"{_CONTAINERD}/containerd-shim-runc-v2",
        "ctr": f"{_CONTAINERD}/ctr",
        "kubelet": f"{_KUBERNETES}/kubelet",
        "kube-proxy": f"{_KUBERNETES}/kube-proxy",
        "coredns": "./coredns",
        "pause": "./pause",
    },
    "helm": {"helm": "helm.sh/helm/v3/cmd/helm"},
    "prometheus": {
        "prometheus": f"{_PROMETHEUS}/prometheus",
        "promtool": f"{_PROMETHEUS}/promtool",
    },
}
"""Set -> program -> Go package."""

_APART = ("prometheus",)
"""Sets of a Go module of their own: its pins move without a new build of everything else."""

_TAGS = {"prometheus": "remove_all_sd,enable_kubernetes_sd"}
"""Build tags: of Prometheus's ways to find targets, the others bring every cloud's client."""


@dataclass(frozen=True)
class Tools:
    """A pinned Go module, and the folder where what is built from it is kept."""

    module: Path = TOOLS

    def holding(self, name: str) -> Self:
        """The same for the module that holds a set."""
        return replace(self, module=TOOLS / name if name in _APART else TOOLS)

    @cached_property
    def cache(self) -> Path:
        """The folder of this pin: another pin, flag or platform has another one."""
        digest = hashlib.sha256()
        own = sorted(path.relative_to(self.module) for path in self.module.glob("*/main.go"))
        for source in ("go.mod", "go.sum", *own):
            digest.update((self.module / source).read_bytes())
        digest.update(" ".join((*self.flags, self.linker_flags, os.uname().machine)).encode())
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "rlhf-operator" / f"tools-{digest.hexdigest()[:16]}"

    @property
    def folder(self) -> Path:
        """Where the programs lie."""
        return self.cache / "bin"

    @property
    def assets(self) -> Path:
        """Where manifests lie that the Go modules ship beside their programs."""
        return self.cache / "assets"

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `go build`."""
        tags = _TAGS.get(self.module.name)
        return ("-trimpath", *(["-tags", tags] if tags else []))

    @property
    def linker_flags(self) -> str:
        """The version is linked in: without it the API server offers the CEL of v0.0.0."""
        if self.module != TOOLS:
            return "-s -w"
        kubernetes, helm = self.version("k8s.io/kubernetes"), self.version("helm.sh/helm/v3")
        component = "k8s.io/component-base/version"
        return " ".join(
            (
                "-s -w",
                f"-X {component}.gitVersion={kubernetes}",
                f"-X {component}.gitMajor=1",
                f"-X {component}.gitMinor={kubernetes.split('.')[1]}",
                f"-X {component}.gitTreeState=clean",
                f"-X helm.sh/helm/v3/internal/version.version={helm}",
            )
        )

    def version(self, module: str) -> str:
        """The pinned version of a Go module, for instance v1.36.3."""
        pins = (self.module / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", pins, re.MULTILINE)
        if found is None:
            raise HarnessError(f"{self.module / 'go.mod'} does not pin {module}")
        return found[1]

    def is_built(self, name: str) -> bool:
        """Whether a set is there; its stamp is written when everything in it is in place."""
        return (self.cache / f"{name}.built").exists()

    def path(self, program: str) -> str:
        """The path of a program; HarnessError if its set has not been built."""
        name = next((name for name, programs in SETS.items() if program in programs), "")
        path = self.holding(name).folder / program
        if not path.exists():
            raise HarnessError(f"{program} is not built", "run `python -m rlhf_harness build`")
        return str(path)
