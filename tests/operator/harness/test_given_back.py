"""Nothing of a cluster is left on the machine: not after its end, not after its owner's death."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rlhf_harness import Cluster, ClusterOptions, HarnessError, UnavailableError, sandbox, state
from rlhf_harness.cluster import end_stale
from rlhf_harness.host_state import HostState
from rlhf_harness.jobs import job, replica
from rlhf_harness.waiting import until

HARNESS = Path(__file__).resolve().parents[2] / "harness"

KILLED = """
import sys
from rlhf_harness import Cluster, ClusterOptions
cluster = Cluster(ClusterOptions(name=sys.argv[1], tied_to_this_process=True))
cluster.up()
cluster.add_node()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _isolated(cluster: Cluster) -> None:
    """The programs are built and the packages installed: what follows changes nothing of that."""


def test_everything_is_given_back_after_down() -> None:
    name = f"back-{os.getpid()}"
    before = HostState.read(name)
    with Cluster(ClusterOptions(name=name)) as cluster:
        cluster.add_node()
        kubernetes = cluster.kubernetes
        kubernetes.namespace("left")
        kubernetes.apply(job("left", "running", replica(cluster.image, ["sleep", "600"])))
        until(lambda: _runs(cluster), "the pod to run", timeout_seconds=60)
        during = before.changes(HostState.read(name))
        folder, link = cluster.context.state.folder, cluster.context.state.link
    for kind in ("links", "routes", "control_groups", "processes"):
        assert any(one.startswith(f"{kind}: added") for one in during), f"{kind} not seen at all"
    for kind in ("mounts", "sysctls", "packet_rules", "files"):
        leaks = [one for one in during if one.startswith(kind) and f"/{link}/" not in one]
        assert not leaks, "the sandbox leaks"
    assert before.changes(HostState.read(name)) == []
    assert not folder.exists()


def test_nothing_is_left_once_the_owner_was_killed() -> None:
    name = f"orphan-{os.getpid()}"
    before = HostState.read(name)
    owner = subprocess.Popen(
        [sys.executable, "-c", KILLED, name],
        env={**os.environ, "PYTHONPATH": str(HARNESS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.send_signal(signal.SIGKILL)
    left = state.load(name)
    assert left is not None
    until(lambda: not left.alive, "the processes to follow their owner")
    end_stale()
    assert before.changes(HostState.read(name)) == []
    assert not left.folder.exists()


def test_second_cluster_of_the_same_name_is_refused(cluster: Cluster) -> None:
    with pytest.raises(HarnessError, match="runs; end it"):
        Cluster(ClusterOptions(name=cluster.options.name)).up()
    assert cluster["kube-apiserver"].running


def test_machine_without_the_rights_has_a_control_plane_and_no_real_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "possible", lambda: False)
    name = f"bare-{os.getpid()}"
    before = HostState.read(name)
    with Cluster(ClusterOptions(name=name, tied_to_this_process=True)) as bare:
        assert bare.kubernetes.kubectl("get", "--raw", "/readyz") == "ok"
        with pytest.raises(UnavailableError, match="needs root and namespaces"):
            bare.add_node()
    assert before.changes(HostState.read(name)) == []


def _runs(cluster: Cluster) -> bool:
    pods = cluster.kubernetes.get("pods", "-n", "left")["items"]
    return any(pod["status"]["phase"] == "Running" for pod in pods)
