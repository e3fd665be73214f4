"""What is measured, started and ended as one: control plane, operator, and the pods' endpoints."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for _folder in ("tests/harness", "tests/operator"):
    sys.path.insert(0, str(HERE.parents[1] / _folder))

# ruff: noqa: E402 - what tests use is found only now
from operating import OperatorProcess, serve_runs
from rlhf_harness import Cluster, training_operator
from rlhf_harness.options import ClusterOptions
from rlhf_harness.waiting import until

from many_runs import load
from many_runs.processes import Memory, Meter, cpu_seconds, memory

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "training-operator",
    "kwok",
)

PODS_PER_NODE = 1000

SETTLED = 5
"""So many equal readings, a second apart, are taken for settled."""

SLOW: dict[str, Any] = {"api_qps": 20, "api_burst": 30, "controller_threads": 1}
"""The training operator's own defaults; the harness gives it more."""


@dataclass
class Endpoints:
    """The server behind the addresses of all pods."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        argv = [sys.executable, str(HERE / "endpoints.py"), f"--port={self.port}"]
        self.process = subprocess.Popen(argv)  # noqa: S603 - our own program
        until(self._answers, "the endpoints")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def break_(self, addresses: list[str]) -> None:
        """Let the trainers of pods measure too large a KL."""
        body = json.dumps([_local(one) for one in addresses]).encode()
        self._ask("/breach", body)

    def told(self) -> dict[str, float]:
        """Return when each breach was first told, by the pod's address: Unix time."""
        found: dict[str, float] = self._state()["told"]
        return {f"10.{address.partition('.')[2]}": when for address, when in found.items()}

    def requests(self) -> int:
        """Return how many requests it has answered."""
        return int(self._state()["requests"])

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._ask("/told"))
        return state

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            found: bytes = answer.read()
            return found

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self._ask("/told"))
        return False


def _local(address: str) -> str:
    return f"127.{address.partition('.')[2]}"


@dataclass
class Startup:
    """How long the operator took to take up its work, in seconds after its process began."""

    ready: float
    """It knows the cluster, and leads."""
    caught_up: float
    """Its queue is empty: every run has been looked at."""
    memory: Memory
    """Afterwards, and at most until then."""
    cpu: float
    """CPU seconds until then."""


@dataclass
class Plant:
    """Everything that runs."""

    cluster: Cluster
    operator: OperatorProcess
    endpoints: Endpoints
    folder: Path
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell how far it has come."""
        load = os.getloadavg()[0]
        print(f"[{time.monotonic() - self.began:5.0f} s, load {load:4.1f}] {text}", flush=True)

    def pids(self) -> dict[str, int]:
        """Return the processes by name."""
        found = {name: self.cluster[name].id.pid for name in COMPONENTS}
        if self.operator.process is not None:
            found["operator"] = self.operator.process.pid
        if self.endpoints.process is not None:
            found["endpoints"] = self.endpoints.process.pid
        return {**found, "load": os.getpid()}

    def meter(self) -> Meter:
        """Begin to count CPU seconds."""
        return Meter(self.pids())

    def operator_memory(self) -> Memory:
        """Return the operator's memory."""
        return memory(self.pids()["operator"])

    def start_operator(self, runs: int) -> Startup:
        """Start the operator; return when it has looked at `runs` runs."""
        began = time.monotonic()
        self.operator.begin()
        until(
            lambda: (
                self.operator.is_serving() and self.operator.answer("/readyz")[0] == HTTPStatus.OK
            ),
            "the operator to be ready",
            timeout_seconds=120,
        )
        ready = time.monotonic() - began

        def caught_up() -> bool:
            page = self.counters()
            return not page["queue_depth"] and page["pass_duration_seconds_count"] >= runs

        until(caught_up, "every run to be looked at", timeout_seconds=240, every_seconds=1)
        caught = time.monotonic() - began
        return Startup(ready, caught, self.operator_memory(), cpu_seconds(self.pids()["operator"]))

    def counters(self) -> Mapping[str, float]:
        """Return the operator's own counters, by name; buckets of passes as `pass<BOUND`."""
        found: dict[str, float] = {}
        for line in self.operator.page("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            name, _, labels = series.removeprefix("rlhf_operator_").partition("{")
            if name == "pass_duration_seconds_bucket":
                found["pass<" + labels.split('"')[1]] = float(value)
            elif not labels and not line.startswith("#"):
                found[name] = float(value)
        return found

    def set_training_operator(self, *, slow: bool) -> None:
        """Start the training operator anew, with its own defaults or with the harness's."""
        options = replace(self.cluster.options, **(SLOW if slow else {}))
        context = replace(self.cluster.context, options=options)
        command = training_operator.command(context, self.cluster.kubernetes)
        self.cluster["training-operator"].restart(command)
        training_operator.wait_accepting(self.cluster.kubernetes)

    def empty_kopf(self) -> Memory:
        """Return the memory of an operator that does nothing, in the empty cluster."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubernetes.kubeconfig)}
        argv = [sys.executable, str(HERE / "empty_operator.py")]
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        seen: list[float] = []

        def settled() -> bool:
            seen.append(memory(process.pid).resident)
            return len(seen) >= SETTLED and len(set(seen[-SETTLED:])) == 1

        until(settled, "its memory to settle", every_seconds=1)
        found = memory(process.pid)
        process.kill()
        process.wait()
        return found


def _free_port() -> int:
    """Return a port that nobody listens on, at any of this machine's addresses."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def plant(*, live: int) -> Iterator[Plant]:
    """Start everything but the operator's process; end everything."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="operator-scale-") as scratch:
        folder = Path(scratch)
        stages = files("rlhf_harness").joinpath("manifests/kwok-stages.yaml")
        own = folder / "stages.yaml"
        own.write_text(load.stages(Path(str(stages))), encoding="utf-8")
        options = ClusterOptions(
            name=f"scale-{os.getpid()}",
            tied_to_this_process=True,
            extra_arguments={"kwok": (f"--config={own}", "--cidr=10.0.0.0/8")},
        )
        with Cluster(options) as cluster:
            cluster.add_kwok(2 + 2 * live // PODS_PER_NODE)
            cluster.kubernetes.namespace(load.NAMESPACE)
            cluster.kubernetes.workspace(load.NAMESPACE, folder / "workspace")
            serve_runs(cluster.kubernetes)
            program = (str(HERE / "addressed_operator.py"),)
            operator = OperatorProcess(
                cluster, "rlhf", folder, program=program, options=(f"--metrics-port={port}",)
            )
            operator.install()
            made = Plant(cluster, operator, Endpoints(port), folder)
            try:
                made.endpoints.start()
                yield made
            finally:
                operator.kill()
                made.endpoints.stop()
