"""The operator's image as a node runs it: by its own user, its root read-only, without torch."""

from pathlib import Path
from typing import Any

from rlhf_harness import Cluster
from rlhf_harness.waiting import until

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "examples" / "movie-reviews" / "rlhfrun.yaml"

INSIDE = """
set -eu
id -u
if touch /app/written 2>/dev/null; then echo writable; else echo read-only; fi
if python -c 'import torch' 2>/dev/null; then echo torch; else echo no torch; fi
cp -r /volume/data/* /tmp/
cp /etc/manifest/rlhfrun.yaml /tmp/
rlhf validate /tmp/rlhfrun.yaml
"""

Json = dict[str, Any]


def pod(image: str) -> Json:
    """One container as the image starts by itself, one that looks around in it.

    Neither is told who it is: `runAsNonRoot` refuses an image whose user is not a number.
    """
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's
        {"name": "workspace", "mountPath": "/volume", "readOnly": True},
        {"name": "manifest", "mountPath": "/etc/manifest", "readOnly": True},
    ]
    common = {"image": image, "securityContext": security}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator-image", "namespace": "examples"},
        "spec": {
            "restartPolicy": "Never",
            "runtimeClassName": "runc",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "supplementalGroups": [65532],  # a volume is its group's
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {**common, "name": "help", "args": ["--help"]},
                {**common, "name": "inside", "command": ["sh", "-c", INSIDE],
                 "volumeMounts": mounts},
            ],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "workspace", "persistentVolumeClaim": {"claimName": "workspace"}},
                {"name": "manifest", "configMap": {"name": "manifest"}},
            ],
        },
    }  # fmt: skip


def test_image_runs_read_only_as_nobody_and_validates_the_example(
    operator_image: str, cluster: Cluster, volume: Path
) -> None:
    assert (volume / "data" / "data").exists()
    kubernetes = cluster.kubernetes
    manifest = {MANIFEST.name: MANIFEST.read_text(encoding="utf-8")}
    metadata = {"name": "manifest", "namespace": "examples"}
    kubernetes.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": manifest},
        pod(operator_image),
    )
    there = ("operator-image", "-n", "examples")

    def phase() -> str:
        return str(kubernetes.get("pod", *there)["status"]["phase"])

    until(lambda: phase() in {"Succeeded", "Failed"}, phase, timeout_seconds=120)
    told = kubernetes.kubectl("logs", *there, "-c", "inside")
    assert phase() == "Succeeded", told
    assert told.splitlines()[:3] == ["65532", "read-only", "no torch"]
    assert "/tmp/rlhfrun.yaml: valid; run movie-reviews" in told  # noqa: S108 - the pod's
    assert "Run RLHFRuns as PyTorchJobs." in kubernetes.kubectl("logs", *there, "-c", "help")
    kubernetes.kubectl("delete", "pod", *there, "--grace-period=0", "--force")
