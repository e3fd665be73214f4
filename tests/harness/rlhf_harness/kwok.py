"""KWOK: nodes that are not there, and pods on them that live by annotations.

For scale, and for outcomes that are awkward to have for real. Pods of PyTorchJobs on such a node
run until told otherwise; the annotations of `Ending` tell when and how they end.
"""

from importlib.resources import files

from rlhf_harness import assets
from rlhf_harness.context import Context
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes, Manifest
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers, until

SELECTOR = {"type": "kwok"}
"""Node selector of pods that are to be played."""

TOLERATION = {"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}
"""Without it no pod gets onto a node that is not there."""

_CAPACITY = {"cpu": "64", "memory": "512Gi", "pods": "1000", "nvidia.com/gpu": "8"}


def ending(
    after: str, *, exit_code: int = 0, message: str = "", reason: str = ""
) -> dict[str, str]:
    """Annotations by which a played pod of a PyTorchJob ends.

    Args:
        after: how long it runs, for instance "500ms".
        exit_code: of every container; 0 makes the pod Succeeded, anything else Failed.
        message: the termination message.
        reason: of the termination, for instance OOMKilled; empty for the usual one.
    """
    annotations = {"kwok.rlhf.dev/end-after": after, "kwok.rlhf.dev/exit-code": str(exit_code)}
    if message:
        annotations["kwok.rlhf.dev/message"] = message
    if reason:
        annotations["kwok.rlhf.dev/reason"] = reason
    return annotations


def kwok(context: Context) -> Command:
    """The process that plays nodes and pods; it touches only nodes made by `nodes`."""
    own = files("rlhf_harness").joinpath("manifests/kwok-stages.yaml").read_text(encoding="utf-8")
    shipped = (context.tools.assets / assets.KWOK_STAGES).read_text(encoding="utf-8")
    path = context.state.write("kwok.yaml", f"{shipped}\n---\n{own}")
    port = context.placement.ports.kwok
    healthy = context.url(port, "/healthz", scheme="http")
    return Command(
        name="kwok",
        argv=context.argv(
            "kwok",
            f"--kubeconfig={context.client('kwok', '/O=system:masters/CN=kwok')}",
            f"--config={path}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=15",
            f"--server-address={context.placement.address}:{port}",
        ),
        ready=lambda: answers(healthy),
    )


def nodes(kubernetes: Kubernetes, count: int) -> None:
    """Make `count` nodes that are not there, and return when they are ready for pods."""
    names = [f"kwok-{index}" for index in range(count)]
    listed = {"apiVersion": "v1", "kind": "List", "items": [_node(name) for name in names]}
    kubernetes.apply(listed)
    until(lambda: _all_ready(kubernetes, names), "the played nodes to be ready")


def present(kubernetes: Kubernetes) -> bool:
    """Whether the cluster has nodes on which pods are played."""
    label = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    return bool(kubernetes.get("nodes", "-l", label)["items"])


def _all_ready(kubernetes: Kubernetes, names: list[str]) -> bool:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}{'\\n'}"
    try:
        seen = [kubernetes.kubectl("get", "node", name, "-o", path).strip() for name in names]
    except CommandError:
        return False
    return all(one == "True" for one in seen)


def _node(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {**SELECTOR, "kubernetes.io/hostname": name},
        },
        "spec": {
            "taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]
        },
        "status": {"allocatable": _CAPACITY, "capacity": _CAPACITY},
    }
