"""pytest fixtures: one cluster for a whole test session, which grows as tests ask for more.

A conftest imports them by name. A machine that cannot do what a test needs skips it, with the
reason.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from rlhf_harness import built_images, existing
from rlhf_harness.cluster import Cluster
from rlhf_harness.errors import UnavailableError
from rlhf_harness.existing import ExistingCluster
from rlhf_harness.options import ClusterOptions

KEEP_LOGS = "RLHF_TEST_KEEP_LOGS"
"""Names a folder in which the components' logs are left at the end of the session."""


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster | ExistingCluster]:
    """A control plane with the training operator, and nodes on which pods are only played."""
    with _told(request.config):
        other = existing.find(tmp_path_factory.mktemp("kubernetes"))
    if other is not None:
        yield other
        return
    options = ClusterOptions(name=f"test-{os.getpid()}", tied_to_this_process=True)
    started = Cluster(options)
    kept = os.environ.get(KEEP_LOGS)
    try:
        with _told(request.config):
            started.up()
            started.add_kwok()
        yield started
    finally:
        started.down(keep_logs=Path(kept) if kept else None)


@pytest.fixture(scope="session")
def own_cluster(control_plane: Cluster | ExistingCluster) -> Cluster:
    """A cluster whose components may be killed; skipped on somebody else's."""
    if isinstance(control_plane, ExistingCluster):
        pytest.skip(f"components of {existing.VARIABLE} are not ours to touch")
    return control_plane


@pytest.fixture(scope="session")
def cluster(own_cluster: Cluster, request: pytest.FixtureRequest) -> Cluster:
    """A cluster with a real node, on which pods run this machine's Python."""
    if not own_cluster.nodes:
        with _told(request.config):
            own_cluster.add_node()
    return own_cluster


@pytest.fixture(scope="session")
def operator_image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The name of the operator's image, which every node has; pods need the runtime `runc`."""
    with _told(request.config):
        image = built_images.operator()
        cluster.import_image(image.archive)
    return image.name


@contextmanager
def _told(config: pytest.Config) -> Iterator[None]:
    """Show progress as it happens, since a first build takes minutes; skip what cannot be."""
    logger, handler = logging.getLogger("rlhf_harness"), _Terminal(config)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    except UnavailableError as unable:
        pytest.skip(str(unable))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Terminal(logging.Handler):
    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._reporter = config.pluginmanager.getplugin("terminalreporter")

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if self._capture is None or self._reporter is None:
            return
        with self._capture.global_and_fixture_disabled():
            self._reporter.write_line(f"  harness: {record.getMessage()}")
