"""An operator of some namespaces goes on where one of them is taken away from it."""

from collections.abc import Iterator

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

KEPT, TAKEN = "kept-namespace", "taken-namespace"
RELEASE = "several"


@pytest.fixture
def several(own_cluster: Cluster, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """An operator for two namespaces; the one for the whole cluster is away meanwhile."""
    operator.stop()
    for name in (KEPT, TAKEN):
        own_cluster.kubernetes.namespace(name)
        own_cluster.kubernetes.workspace(name, operator.folder / "workspaces" / name)
    process = OperatorProcess(
        own_cluster,
        RELEASE,
        operator.folder,
        namespaces=(KEPT, TAKEN),
        options=("--resync-seconds=2",),
    )
    process.install()
    yield process
    process.kill()
    operator.start()


def begun(cluster: Cluster, namespace: str, name: str) -> Run:
    cluster.kubernetes.apply(manifest(namespace, name, **ending("100ms")))
    return Run(cluster.kubernetes, namespace, name)


def test_namespace_that_is_taken_away_does_not_stop_the_others(
    several: OperatorProcess, own_cluster: Cluster
) -> None:
    """As where a namespace is deleted: its RoleBinding goes along."""
    kubernetes = own_cluster.kubernetes
    kubernetes.kubectl("delete", "rolebinding", RELEASE, "-n", TAKEN)
    several.start()
    begun(own_cluster, KEPT, "goes-on").wait("Finished")
    assert f"namespace {TAKEN} may not be read" in several.tail()
    assert "rlhf_operator_denied_namespaces 1.0" in several.page("/metrics")

    left_alone = begun(own_cluster, TAKEN, "left-alone")
    several.install()
    assert several.process is not None
    assert several.process.wait(timeout=60) == 1
    assert f"namespace {TAKEN} may be read again" in several.tail()
    several.tend()
    left_alone.wait("Finished", seconds=60)
    assert "rlhf_operator_denied_namespaces 0.0" in several.page("/metrics")


def test_right_that_comes_back_soon_costs_nothing(
    several: OperatorProcess, own_cluster: Cluster
) -> None:
    """As where a RoleBinding is made anew: lists fail meanwhile, and nothing is forgotten."""
    several.start()
    run = begun(own_cluster, TAKEN, "known")
    run.wait("Finished")
    counted = 'rlhf_operator_runs{outcome="Completed",phase="Succeeded"}'
    before = [line for line in several.page("/metrics").splitlines() if counted in line]
    own_cluster.kubernetes.kubectl("delete", "rolebinding", RELEASE, "-n", TAKEN)
    until(lambda: f"namespace {TAKEN} may not be read any more" in several.tail(), several.tail)
    assert [line for line in several.page("/metrics").splitlines() if counted in line] == before
    several.install()
    begun(own_cluster, TAKEN, "next").wait("Finished")
    assert several.process is not None
    assert several.process.poll() is None


def test_operator_that_may_read_nothing_is_not_ready(
    several: OperatorProcess, own_cluster: Cluster
) -> None:
    for namespace in (KEPT, TAKEN):
        own_cluster.kubernetes.kubectl("delete", "rolebinding", RELEASE, "-n", namespace)
    several.begin()
    until(lambda: several.leads() and several.answer("/readyz")[0] == 503, several.tail)
    until(lambda: "could not be listed" in several.tail(), several.tail)
