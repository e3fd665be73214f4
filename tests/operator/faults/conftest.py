"""An operator that reaches the API server through a proxy, or is restarted whenever it ends."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

sys.path.insert(0, str(Path(__file__).parent))

from faulty_proxy import FaultyProxy

NAMESPACE = "faults"


@pytest.fixture
def kept(unattended: OperatorProcess) -> Iterator[OperatorProcess]:
    """An operator, leading; see `runs_end` for who restarts it."""
    process = unattended.beside("kept")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def proxy(own_cluster: Cluster, tmp_path: Path) -> Iterator[FaultyProxy]:
    """The proxy, faultless until told otherwise."""
    server, authority = own_cluster.kubernetes.server()
    (tmp_path / "ca.crt").write_bytes(authority)
    proxy = FaultyProxy(server, tmp_path / "ca.crt", np.random.default_rng(0))
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def behind(unattended: OperatorProcess, proxy: FaultyProxy) -> Iterator[OperatorProcess]:
    """An operator behind the proxy, leading."""
    assert unattended.account is not None
    account = unattended.account.through(proxy.url, "behind-the-proxy")
    process = unattended.beside("behind", environment={"KUBECONFIG": str(account.kubeconfig)})
    process.start()
    yield process
    process.kill()


@pytest.fixture
def begin(own_cluster: Cluster, prepare: Callable[[str], None]) -> Callable[..., list[Run]]:
    """Apply runs of which every pod completes after a moment."""
    prepare(NAMESPACE)

    def begin(names: list[str], after: str = "500ms") -> list[Run]:
        items = [manifest(NAMESPACE, name, **ending(after)) for name in names]
        own_cluster.kubernetes.apply({"apiVersion": "v1", "kind": "List", "items": items})
        return [Run(own_cluster.kubernetes, NAMESPACE, name) for name in names]

    return begin


@pytest.fixture
def runs_end(own_cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Wait until runs have completed, each attempt at once and each job made once.

    Not `answered` says that the API server or etcd was killed: a job that was just then made has
    left no answer, or one that says it failed, and is not counted.
    """
    mark = own_cluster.audit.mark()

    def runs_end(
        process: OperatorProcess,
        runs: list[Run],
        *,
        seconds: float = 120,
        meanwhile: Callable[[], object] = lambda: None,
        answered: bool = True,
    ) -> None:
        left = list(runs)

        def ended() -> bool:
            process.tend()
            meanwhile()
            if left and left[0].condition("Finished").get("status") == "True":
                left.pop(0)
            return not left

        def waited_for() -> str:
            return left[0].seen()

        until(ended, waited_for, timeout_seconds=seconds)
        for run in runs:
            assert run.status["outcome"] == "Completed", run.status
            told = [one["lastFailure"] for one in run.status["phases"]]
            assert [one["attempts"] for one in run.status["phases"]] == [1] * 5, told
        created = [
            one.name
            for one in own_cluster.audit.since(mark, user=process.user)
            if (one.verb, one.resource) == ("create", "pytorchjobs") and one.code < 300
            if one.name.partition("-i1-")[0] in {run.name for run in runs}
        ]
        assert len(created) == len(set(created)), created
        if answered:
            assert len(created) == 5 * len(runs), created
        until(lambda: all(len(run.jobs()) == 1 for run in runs), "superfluous jobs to go")

    return runs_end
