"""The definition on a real API server, and a namespace to break its rules in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rlhf_harness import Cluster, ExistingCluster
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.waiting import until

CRD = Path(__file__).resolve().parents[3] / "crds" / "rlhf.dev_rlhfruns.yaml"

NAMESPACE = "api-rules"


@pytest.fixture(scope="session")
def api(control_plane: Cluster | ExistingCluster) -> Kubernetes:
    """The administrator of a cluster that knows RLHFRuns."""
    kubernetes = control_plane.kubernetes
    kubernetes.apply(CRD)
    kubernetes.namespace(NAMESPACE)

    def known() -> bool:
        try:
            kubernetes.get("rlhfruns", "-n", NAMESPACE)
        except CommandError:
            return False
        return True

    until(known, "RLHFRuns to be served", timeout_seconds=30, every_seconds=0.2)
    return kubernetes


@pytest.fixture
def create(api: Kubernetes) -> Callable[..., dict[str, Any]]:
    """Create a run and return it as the API server keeps it."""

    def create(run: dict[str, Any]) -> dict[str, Any]:
        api.apply(run)
        return api.get("rlhfrun", run["metadata"]["name"], "-n", NAMESPACE)

    return create
