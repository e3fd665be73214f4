"""What a cluster can be asked for. Everything has a default that the operator's tests use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

IMAGE = "localhost/rlhf-trainer:host"
"""The image that every node knows: an empty root; the `host` runtime mounts what it runs."""


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What one real node looks like to the scheduler."""

    gpus: int = 8
    """Fake `nvidia.com/gpu` capacity: pods that ask for them are placed and run for real."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the node, for instance those that a node pool selects."""

    default_runtime: str = "host"
    """Runtime of pods without a `runtimeClassName`: `host` (this machine's Python) or `runc`."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What one cluster is made of."""

    name: str = "default"
    """Names the state folder, cgroups and network of the cluster: [a-z0-9-], 20 at most."""

    tied_to_this_process: bool = False
    """End the whole cluster when the process that starts it ends, however it ends."""

    extra_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More arguments per component, for instance {"kube-apiserver": ("--v=4",)}."""

    api_qps: int = 500
    """Requests per second that the training operator allows itself (its own default is 20)."""

    api_burst: int = 1000
    """Its burst (its own default is 30)."""

    controller_threads: int = 4
    """Jobs it works on at the same time (its own default is 1)."""
