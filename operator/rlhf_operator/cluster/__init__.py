"""The backend of the operator: attempts are PyTorchJobs, status is a subresource.

Only this package talks to the API server, besides Kopf's watches.
"""

from rlhf_operator.cluster.api import Api
from rlhf_operator.cluster.backend import ClusterBackend
from rlhf_operator.cluster.cache import Cache
from rlhf_operator.cluster.kinds import JOBS, PODS, RUN_LABEL, RUNS
from rlhf_operator.cluster.resync import readable, resync

__all__ = [
    "JOBS",
    "PODS",
    "RUNS",
    "RUN_LABEL",
    "Api",
    "Cache",
    "ClusterBackend",
    "readable",
    "resync",
]
