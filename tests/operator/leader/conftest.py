"""Two processes of one release, of which one leads."""

import signal
from collections.abc import Callable, Iterator

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster

NAMESPACE = "led"

Replicas = tuple[OperatorProcess, OperatorProcess]


@pytest.fixture(scope="package")
def unattended(own_cluster: Cluster, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The usual operator, stopped: others of its release work."""
    operator.stop()
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace(NAMESPACE)
    kubernetes.workspace(NAMESPACE, operator.folder / "workspaces" / NAMESPACE)
    yield operator
    operator.start()


@pytest.fixture
def replicas(unattended: OperatorProcess) -> Iterator[Callable[..., Replicas]]:
    """Make two processes, not started yet; whatever becomes of them, they are gone afterwards."""
    made: list[OperatorProcess] = []

    def replicas(*options: str) -> Replicas:
        pair = unattended.beside("0", options=options), unattended.beside("1", options=options)
        made.extend(pair)
        return pair

    yield replicas
    for one in made:
        if one.process is not None:
            one.process.send_signal(signal.SIGCONT)
        one.kill()
