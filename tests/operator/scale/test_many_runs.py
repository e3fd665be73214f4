"""The benchmark of scale in small: it works, and what a run costs the API server is bounded."""

import asyncio
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from kubernetes.aio import config as credentials
from kubernetes.aio.client import ApiClient
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.kubernetes import Kubernetes
from runs import Run, manifest

import operator_scale
from many_runs.report import STEADY, Report, result
from recording import read_results, record
from rlhf_operator.api import RunKey
from rlhf_operator.cluster import Api, Cache

# The package has a function of this name.
listing = importlib.import_module("rlhf_operator.cluster.resync")

NAMESPACE = "many"

MOST_REQUESTS = 32
"""Of the operator, for a run from its arrival to its PPO."""


@pytest.fixture(scope="module")
def report(own_cluster: Cluster) -> Report:
    """What the benchmark finds with few runs, in a cluster of its own."""
    assert own_cluster["kube-apiserver"].running  # so one can be had here
    arguments = ("--live", "10", "--finished", "60", "--whole", "10", "--window", "25")
    short = ("--rate", "0.3", "--settle", "15", "--breaches", "0", "--no-training-operator")
    plan = operator_scale.parse([*arguments, *short])
    return operator_scale.measure(plan)


def test_run_costs_the_api_server_a_bounded_number_of_requests(report: Report) -> None:
    [steady] = [one for one in report.windows if one.what == STEADY]
    assert steady.per_run["create pytorchjobs"] == 4
    assert sum(steady.per_run.values()) <= MOST_REQUESTS, steady.per_run
    assert not [call for call in steady.per_run if call.startswith(("list", "get"))]


def test_every_latency_is_measured(report: Report) -> None:
    burst, steady = report.windows
    arrived = "run applied → job created"
    assert burst.spreads[arrived].count == 10
    assert steady.spreads[arrived].count > 0
    assert steady.spreads["pod ended → next phase's job created"].count > 0
    assert steady.scrapes > 0
    assert steady.cpu["operator"] > 0


def test_result_can_be_written_and_read(report: Report, tmp_path: Path) -> None:
    made = result(report, 0.0, "python benchmarks/operator_scale.py")
    record(made, tmp_path)
    assert read_results(tmp_path) == [made]
    titles = {table.title for table in made.tables}
    assert {"Latencies, seconds", "Start and memory"} <= titles


def test_list_in_pages_finds_everything_and_what_is_gone(
    own_cluster: Cluster,
    operator: OperatorProcess,
    prepare: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(NAMESPACE)
    monkeypatch.setattr(listing, "PAGE", 3)
    monkeypatch.setattr(listing, "METADATA_PAGE", 3)
    monkeypatch.setattr(listing, "FEW", 2)
    names = {f"page-{index}" for index in range(8)}
    items = [manifest(NAMESPACE, name, placement={"pool": "absent"}) for name in names]
    own_cluster.kubernetes.apply({"apiVersion": "v1", "kind": "List", "items": items})
    gone = Run(own_cluster.kubernetes, NAMESPACE, "page-0")
    # Nobody else changes them any more: a list must bring nothing new.
    operator.stop()
    try:
        account = own_cluster.kubernetes
        change = partial(_label, account)
        found = asyncio.run(_listed(str(account.kubeconfig), change, gone.delete_unattended))
    finally:
        operator.start()
    first, again, few, many, after = found
    assert first == names
    assert again == set()
    assert few == {"page-1", "page-2"}
    assert many == {"page-3", "page-4", "page-5"}
    assert after == {"page-0"}
    for name in names - {"page-0"}:
        Run(own_cluster.kubernetes, NAMESPACE, name).delete()


def _label(kubernetes: Kubernetes, *names: str) -> None:
    kubernetes.kubectl("-n", NAMESPACE, "label", "rlhfruns", *names, "changed=yes")


async def _listed(
    kubeconfig: str, change: Callable[..., None], delete: Callable[[], None]
) -> list[set[str]]:
    """List again and again; return the runs with news each time."""
    await credentials.load_config(config_file=kubeconfig)
    async with ApiClient() as client:
        api, cache = Api(client), Cache()

        async def listed() -> set[str]:
            # Nothing is in the other namespace.
            scopes = (NAMESPACE, "default")
            changed: set[RunKey] = set()
            await listing.resync(api, cache, scopes, changed)
            return {key.name for key in changed}

        found = [await listed(), await listed()]
        for names in (("page-1", "page-2"), ("page-3", "page-4", "page-5")):
            await asyncio.to_thread(change, *names)
            found.append(await listed())
            runs = [cache.run(RunKey(NAMESPACE, name)) for name in names]
            # Whole again, although a list of metadata has told of the change.
            assert all(run and run["metadata"]["labels"]["changed"] and run["spec"] for run in runs)
        await asyncio.to_thread(delete)
        return [*found, await listed()]
