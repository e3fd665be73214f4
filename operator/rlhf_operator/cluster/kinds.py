"""The kinds of objects that the operator reads and writes, and where the API server has them."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""An object, as the API server tells it."""

RUN_LABEL = "rlhf.dev/run"
"""Names the run that a job or pod belongs to."""


@dataclass(frozen=True)
class Kind:
    """A kind of object."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """Return what objects of this kind say about it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Where the API server serves its group."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the path of one object, or of all in a namespace or in the cluster."""
        scope = ["namespaces", namespace] if namespace else []
        parts = [self.root, *scope, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


RUNS = Kind("rlhf.dev", "v1alpha1", "rlhfruns", "RLHFRun")
JOBS = Kind("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob")
PODS = Kind("", "v1", "pods", "Pod")
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
CLAIMS = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENTS = Kind("", "v1", "events", "Event")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
