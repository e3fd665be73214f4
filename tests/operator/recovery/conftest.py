"""An operator that the tests start and end as they like."""

from collections.abc import Iterator

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster

NAMESPACE = "recovery"


@pytest.fixture(scope="package")
def mortal(own_cluster: Cluster, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """An operator that is started by the tests, the usual one being away."""
    operator.stop()
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace(NAMESPACE)
    kubernetes.workspace(NAMESPACE, operator.folder / "workspaces" / NAMESPACE)
    yield operator
    operator.kill()
    operator.program, operator.environment = ("-m", "rlhf_operator.main"), {}
    operator.start()
