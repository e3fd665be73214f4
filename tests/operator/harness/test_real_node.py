"""Real pods: the project's own Python, under Pod Security, with GPUs that are not there."""

from pathlib import Path

from rlhf_harness import Cluster, NodeOptions
from rlhf_harness.jobs import job, replica, terminated, wait_condition
from rlhf_harness.waiting import until

STOPPED = """
import os, sys, rlhf_trainer
print(os.getuid(), sys.prefix, rlhf_trainer.__file__)
with open("/dev/termination-log", "w") as message:
    message.write("stopped by the guard")
raise SystemExit(10)
"""

GREETS = """
import os, socket
server = socket.create_server(("", int(os.environ["MASTER_PORT"])))
connection, _ = server.accept()
assert connection.recv(5) == b"hello"
"""

JOINS = """
import os, socket
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
socket.create_connection(address, timeout=30).sendall(b"hello")
"""


def test_pod_runs_the_projects_python_and_its_exit_code_is_seen(cluster: Cluster) -> None:
    kubernetes = cluster.kubernetes
    kubernetes.namespace("stopping")
    kubernetes.apply(
        job("stopping", "stops", replica(cluster.image, ["python", "-c", STOPPED], gpus=8))
    )
    wait_condition(kubernetes, "stopping", "stops", "Failed")
    ended = terminated(kubernetes, "stopping", "stops-master-0")
    assert (ended["exitCode"], ended["message"]) == (10, "stopped by the guard")
    uid, prefix, package = kubernetes.kubectl("logs", "-n", "stopping", "stops-master-0").split()
    assert uid == "65532"
    assert package == str(Path(__file__).resolve().parents[3] / "trainer/rlhf_trainer/__init__.py")
    assert Path(prefix, "bin/python").exists()


def test_worker_finds_its_master_by_name_under_restricted(cluster: Cluster) -> None:
    kubernetes = cluster.kubernetes
    kubernetes.namespace("joining")
    master = replica(cluster.image, ["python", "-c", GREETS], gpus=1)
    worker = replica(cluster.image, ["python", "-c", JOINS], gpus=1)
    kubernetes.apply(job("joining", "joins", master, worker))
    wait_condition(kubernetes, "joining", "joins", "Succeeded")


def test_workspace_folder_is_written_by_a_pod_and_read_here(
    cluster: Cluster, tmp_path: Path
) -> None:
    kubernetes = cluster.kubernetes
    kubernetes.namespace("working")
    kubernetes.workspace("working", tmp_path / "workspace")
    one = replica(cluster.image, ["python", "-c", "open('/workspace/made', 'w').write('here')"])
    pod = one["template"]["spec"]
    claim = {"claimName": "workspace"}
    pod["volumes"].append({"name": "workspace", "persistentVolumeClaim": claim})
    mount = {"name": "workspace", "mountPath": "/workspace"}
    pod["containers"][0]["volumeMounts"].append(mount)
    kubernetes.apply(job("working", "writes", one))
    wait_condition(kubernetes, "working", "writes", "Succeeded")
    assert (tmp_path / "workspace/made").read_text(encoding="utf-8") == "here"


def test_second_node_takes_pods_by_its_labels(cluster: Cluster) -> None:
    # Other tests may have added nodes of their own.
    added = cluster.add_node(NodeOptions(gpus=4, labels={"pool": "second"}))
    kubernetes = cluster.kubernetes
    kubernetes.namespace("second")
    placed = {"nodeSelector": {"pool": "second"}}
    kubernetes.apply(
        job("second", "there", replica(cluster.image, ["true"], gpus=4, placed=placed))
    )
    wait_condition(kubernetes, "second", "there", "Succeeded")
    pod = kubernetes.get("pod", "there-master-0", "-n", "second")
    assert pod["spec"]["nodeName"] == added.name


def test_lost_node_takes_its_pods_with_it_and_comes_back_with_its_gpus(cluster: Cluster) -> None:
    kubernetes, node = cluster.kubernetes, cluster.nodes[0]
    kubernetes.namespace("lost")
    placed = {"nodeName": node.name}
    sleeps = replica(cluster.image, ["sleep", "4711"], placed=placed)
    kubernetes.apply(job("lost", "sleeps", sleeps))
    wait_condition(kubernetes, "lost", "sleeps", "Running")
    assert _sleeping()
    cluster.lose_node(node)
    assert not _sleeping()
    cluster.revive_node(node)
    assert kubernetes.get("node", node.name)["status"]["capacity"]["nvidia.com/gpu"] == "8"
    wait_condition(kubernetes, "lost", "sleeps", "Failed")


def _sleeping() -> bool:
    commands = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return any(b"sleep\x004711" in path.read_bytes() for path in commands)


def test_without_the_template_workers_are_forbidden_under_restricted(cluster: Cluster) -> None:
    kubernetes = cluster.kubernetes
    kubernetes.namespace("forbidden")
    cluster.restart_training_operator(restricted_init_container=False)
    try:
        one = replica(cluster.image, ["sleep", "60"])
        kubernetes.apply(job("forbidden", "hangs", one, one))
        until(lambda: _refused(cluster), "the worker's pod to be refused", timeout_seconds=60)
    finally:
        cluster.restart_training_operator()
    kubernetes.kubectl("delete", "pytorchjob", "hangs", "-n", "forbidden")


def _refused(cluster: Cluster) -> bool:
    events = cluster.kubernetes.get("events", "-n", "forbidden")["items"]
    return any("violates PodSecurity" in event["message"] for event in events)
