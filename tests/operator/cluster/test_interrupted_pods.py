"""Training that is interrupted in real pods goes on, on another node, from its last checkpoint."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rlhf_harness import Cluster, NodeOptions
from rlhf_harness.waiting import until
from runs import Run

from rlhf_trainer.contract import AttemptPaths, Phase, ResumedFrom, Workspace
from rlhf_trainer.engine.lineage import complete_steps

NAMESPACE = "interrupted"
REAL = "rlhf.test/real"

LONG: dict[str, Any] = {
    "sft": {"epochs": 1000, "maximumSteps": 100_000},
    "checkpoint": {"everySteps": 20},
    "runPolicy": {"terminationGracePeriodSeconds": 60},
    "placement": {"pool": "real", "gpusPerNode": 1, "phases": {"preparation": {"pool": "cpu"}}},
}

LEAVE_AT_ONCE = [
    {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute"}
    | {"tolerationSeconds": 0}
    for taint in ("unreachable", "not-ready")
]
"""Instead of after the usual five minutes."""

Apply = Callable[..., Run]


@pytest.fixture(scope="module")
def two_nodes(real_node: Cluster) -> Cluster:
    """The cluster with a second real node."""
    if len(real_node.nodes) < 2:
        added = real_node.add_node(NodeOptions(labels={REAL: "yes"}))
        real_node.kubernetes.kubectl("label", "node", added.name, "--overwrite", f"{REAL}=yes")
    return real_node


@pytest.fixture
def training(
    two_nodes: Cluster, apply_real: Apply, volume: Callable[[str], Path]
) -> Iterator[Callable[..., tuple[Run, AttemptPaths]]]:
    """Start a run and return it once its SFT has saved."""
    assert len(two_nodes.nodes) == 2
    started: list[Run] = []

    def start(name: str, **spec: Any) -> tuple[Run, AttemptPaths]:
        run = apply_real(NAMESPACE, name, **{**LONG, **spec})
        started.append(run)
        root = volume(NAMESPACE) / f"{name}-{run.object['metadata']['uid'][:8]}"
        first = Workspace(root).attempt(1, Phase.SFT, 1)
        until(lambda: bool(complete_steps(first)), "SFT to save", timeout_seconds=300)
        return run, first

    yield start
    for run in started:
        run.delete(wait_seconds=90)


def node_of(run: Run, attempt: int) -> str:
    name = f"{run.name}-i1-sft-a{attempt}-master-0"
    found: str = run.kubernetes.get("pod", name, "-n", NAMESPACE)["spec"]["nodeName"]
    return found


def goes_on_elsewhere(run: Run, first: AttemptPaths, node: str, seconds: float = 180) -> None:
    """The second attempt is uncounted, runs on the other node and begins at a checkpoint."""
    until(lambda: run.phase("SFT")["attempts"] == 2, "another attempt", timeout_seconds=seconds)
    second = AttemptPaths(first.root.with_name("attempt-2"))
    until(second.resumed_from.exists, "it to pick a checkpoint", timeout_seconds=180)
    record = ResumedFrom.model_validate_json(second.resumed_from.read_text("utf-8"))
    assert record.attempt == 1
    assert record.step > 0
    assert node_of(run, 2) != node
    assert run.phase("SFT")["failures"] == 0


@pytest.mark.fault(
    "a node is drained",
    "not counted; goes on elsewhere from its checkpoint",
)
def test_drained_node_is_left_and_training_goes_on(
    training: Callable[..., tuple[Run, AttemptPaths]], two_nodes: Cluster
) -> None:
    run, first = training("drained")
    node = node_of(run, 1)
    kubectl = two_nodes.kubernetes.kubectl
    try:
        options = ("--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        kubectl("drain", node, f"--pod-selector=rlhf.dev/run={run.name}", *options)
        goes_on_elsewhere(run, first, node)
    finally:
        kubectl("uncordon", node)
    assert json.loads(first.result.read_text("utf-8"))["outcome"] == "Preempted"


@pytest.mark.fault(
    "a pod is preempted by priority",
    "not counted; goes on from its checkpoint",
)
def test_pod_that_gives_way_to_a_more_important_one_goes_on(
    training: Callable[..., tuple[Run, AttemptPaths]], two_nodes: Cluster
) -> None:
    run, first = training("outranked")
    node, kubernetes = node_of(run, 1), two_nodes.kubernetes
    kubernetes.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "important"},
            "value": 1000,
        },
        important(two_nodes, node),
    )
    try:
        goes_on_elsewhere(run, first, node)
    finally:
        kubernetes.kubectl(
            "delete", "pod", "important", "-n", NAMESPACE, "--grace-period=0", "--force"
        )


def important(cluster: Cluster, node: str) -> dict[str, Any]:
    """A pod that wants all GPUs of a node."""
    gpus = {"nvidia.com/gpu": "8"}
    container = {
        "name": "sleeps",
        "image": cluster.image,
        "command": ["sleep", "3600"],
        "resources": {"limits": gpus, "requests": gpus},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "important", "namespace": NAMESPACE},
        "spec": {
            "priorityClassName": "important",
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [container],
            "securityContext": user,
        },
    }


@pytest.mark.fault(
    "a node is lost",
    "not counted; goes on elsewhere from its checkpoint",
)
def test_lost_node_is_given_up_after_a_minute_and_training_goes_on(
    training: Callable[..., tuple[Run, AttemptPaths]], two_nodes: Cluster
) -> None:
    placement = {**LONG["placement"], "tolerations": LEAVE_AT_ONCE}
    run, first = training("bereft", placement=placement)
    name = node_of(run, 1)
    lost = next(node for node in two_nodes.nodes if node.name == name)
    two_nodes.lose_node(lost)
    try:
        goes_on_elsewhere(run, first, name, seconds=240)
        until(lambda: run.jobs()[-1:] == ["bereft-i1-sft-a2"], lambda: f"one job: {run.jobs()}")
    finally:
        two_nodes.revive_node(lost)
    until(lambda: len(run.pods()) == 1, "the lost pod to be gone", timeout_seconds=90)
    assert run.phase("SFT")["attempts"] == 2
