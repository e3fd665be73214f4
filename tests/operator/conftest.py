"""Every test of the operator uses the same cluster: the one of tests/harness."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from operating import OperatorProcess, serve_runs
from rlhf_harness import Cluster
from rlhf_harness.fixtures import cluster, control_plane, own_cluster
from runs import Run, manifest

__all__ = ["cluster", "control_plane", "own_cluster"]


@pytest.fixture(scope="session")
def operator(
    own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator, looking after the whole cluster with the rights that its chart grants."""
    serve_runs(own_cluster.kubernetes)
    process = OperatorProcess(own_cluster, "rlhf", tmp_path_factory.mktemp("operator"))
    process.install()
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def prepare(own_cluster: Cluster, operator: OperatorProcess) -> Callable[[str], None]:
    """Make a namespace with a workspace, unless it is there."""
    made: set[str] = set()

    def prepare(namespace: str) -> None:
        if namespace not in made:
            own_cluster.kubernetes.namespace(namespace)
            own_cluster.kubernetes.workspace(namespace, operator.folder / "workspaces" / namespace)
            made.add(namespace)

    return prepare


@pytest.fixture(scope="module")
def unattended(own_cluster: Cluster, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The usual operator, stopped: others of its release work."""
    operator.stop()
    yield operator
    own_cluster.tend()
    operator.start()


@pytest.fixture
def apply(
    own_cluster: Cluster, operator: OperatorProcess, prepare: Callable[[str], None]
) -> Callable[..., Run]:
    """Make a namespace, if need be, and a run in it."""
    assert operator.process is not None, "an earlier test left the operator stopped"

    def apply(namespace: str, name: str, **spec: Any) -> Run:
        prepare(namespace)
        own_cluster.kubernetes.apply(manifest(namespace, name, **spec))
        return Run(own_cluster.kubernetes, namespace, name)

    return apply
