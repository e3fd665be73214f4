"""The claim of a run's workspace, unless the run names one that exists."""

from typing import Any

from rlhf_operator.api import Retention, RLHFRun
from rlhf_operator.api.workspace import DEFAULT_SIZE
from rlhf_operator.render.labels import owner_reference, run_labels


def workspace_claim(run: RLHFRun) -> dict[str, Any] | None:
    """Return the claim to make, or None where the run names one.

    With retention Delete the run owns it, and Kubernetes removes it with the run.
    """
    workspace = run.spec.workspace
    if workspace.claim_name is not None:
        return None
    metadata: dict[str, Any] = {
        "name": run.claim_name,
        "namespace": run.metadata.namespace,
        "labels": run_labels(run),
    }
    if workspace.retention is Retention.DELETE:
        metadata["ownerReferences"] = [owner_reference(run)]
    spec: dict[str, Any] = {
        "accessModes": [workspace.access_mode.value],
        "resources": {"requests": {"storage": workspace.size or DEFAULT_SIZE}},
    }
    if workspace.storage_class_name is not None:
        spec["storageClassName"] = workspace.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }
