"""PyTorchJobs for tests of the harness and for probes, as Pod Security `restricted` wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.waiting import until

Json = dict[str, Any]

SCRATCH = "/tmp"  # noqa: S108  a pod's own


def replica(
    image: str,
    command: Sequence[str],
    *,
    gpus: int = 0,
    annotations: Mapping[str, str] | None = None,
    placed: Mapping[str, Any] | None = None,
) -> Json:
    """One replica whose container runs `command`; `placed` is merged into the pod's spec."""
    tight = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "pytorch",
        "image": image,
        "command": list(command),
        "env": [{"name": "HOME", "value": SCRATCH}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {},
        "securityContext": tight,
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 5,
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        **(placed or {}),
    }
    metadata = {"annotations": dict(annotations or {})}
    template = {"metadata": metadata, "spec": pod}
    return {"replicas": 1, "restartPolicy": "Never", "template": template}


def job(namespace: str, name: str, master: Json, worker: Json | None = None) -> Json:
    """A job of a master, and a worker if there is one."""
    replicas = {"Master": master, **({"Worker": worker} if worker else {})}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"runPolicy": {"cleanPodPolicy": "Running"}, "pytorchReplicaSpecs": replicas},
    }


def wait_condition(kubernetes: Kubernetes, namespace: str, name: str, condition: str) -> None:
    """Return when the job has the condition."""
    last: Json = {}

    def reached() -> bool:
        last.update(kubernetes.get("pytorchjob", name, "-n", namespace).get("status", {}))
        found = last.get("conditions") or []
        return any(one["type"] == condition and one["status"] == "True" for one in found)

    what = f"{namespace}/{name} to be {condition}; last status:"
    until(reached, lambda: f"{what} {last}", timeout_seconds=90, every_seconds=0.3)


def terminated(kubernetes: Kubernetes, namespace: str, pod: str) -> Json:
    """How the container of a pod ended; returns when it has."""
    ended: Json = {}

    def over() -> bool:
        status = kubernetes.get("pod", pod, "-n", namespace)["status"]
        states = [one["state"] for one in status.get("containerStatuses", [])]
        ended.update(states[0].get("terminated", {}) if states else {})
        return bool(ended)

    until(over, f"{namespace}/{pod} to end", timeout_seconds=90, every_seconds=0.3)
    return ended
