"""The chart through the real helm, before a server that knows other projects' kinds."""

from collections.abc import Callable
from typing import Any

import pytest
from charting import Helm, Promtool, published
from operating import NAMESPACE
from rlhf_harness import Cluster
from rlhf_harness.binaries import Tools
from rlhf_harness.building import ensure_built
from rlhf_harness.commands import run
from rlhf_harness.errors import CommandError, UnavailableError
from rlhf_harness.waiting import until


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The pinned helm, built if need be."""
    tools = Tools()
    try:
        ensure_built(tools, "helm")
    except UnavailableError as unable:
        pytest.skip(str(unable))
    version = tools.version("k8s.io/kubernetes")
    return Helm(tools.path("helm"), version, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """The promtool of the pinned Prometheus, built if need be."""
    tools = Tools()
    try:
        ensure_built(tools, "prometheus")
    except UnavailableError as unable:
        pytest.skip(str(unable))
    return lambda *arguments: run([tools.path("promtool"), *arguments])


@pytest.fixture(scope="session")
def check(own_cluster: Cluster) -> Callable[[dict[str, Any]], None]:
    """Ask the API server, which knows the others' definitions, to take a manifest on trial."""
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace(NAMESPACE)
    kinds = []
    for path in published():
        kubernetes.apply(path)
        group, _, plural = path.stem.partition("_")
        kinds.append(f"{plural}.{group}")

    def served() -> bool:
        try:
            for kind in kinds:
                kubernetes.get(kind, "-A")
        except CommandError:
            return False
        return True

    until(served, "the others' kinds to be served")
    return kubernetes.check
