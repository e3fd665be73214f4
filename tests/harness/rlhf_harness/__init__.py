"""A real Kubernetes on this machine, for tests and for people who want to try the operator.

`Cluster` is what tests use: etcd, API server, controller manager, scheduler and the training
operator as processes, real nodes (containerd and kubelet) and fake ones (KWOK). Nothing here is a
mock. Only the standard library is needed, so that `python -m rlhf_harness` runs anywhere.
"""

from rlhf_harness.cluster import Cluster
from rlhf_harness.errors import HarnessError, UnavailableError
from rlhf_harness.existing import ExistingCluster
from rlhf_harness.options import ClusterOptions, NodeOptions

__all__ = [
    "Cluster",
    "ClusterOptions",
    "ExistingCluster",
    "HarnessError",
    "NodeOptions",
    "UnavailableError",
]
