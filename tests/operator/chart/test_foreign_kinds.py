"""Manifests of other projects' kinds, before an API server that has those projects' definitions."""

from collections.abc import Callable
from typing import Any

import pytest
from charting import Helm, examples
from operating import serve_runs
from rlhf_harness import Cluster
from rlhf_harness.errors import CommandError

Json = dict[str, Any]
Check = Callable[[Json], None]

WATCHED = {
    "podMonitors": {"enabled": True, "labels": {"release": "stack"}},
    "alerts": {"enabled": True, "labels": {"release": "stack"}},
}


@pytest.mark.parametrize("namespaces", [[], ["team-a"]], ids=["cluster", "namespaces"])
def test_monitors_and_rules_are_taken(helm: Helm, check: Check, namespaces: list[str]) -> None:
    found = [
        one
        for one in helm.template({**WATCHED, "namespaces": namespaces})
        if one["apiVersion"].startswith("monitoring.coreos.com/")
    ]
    assert [one["kind"] for one in found] == ["PodMonitor", "PodMonitor", "PrometheusRule"]
    for one in found:
        assert one["metadata"]["labels"]["release"] == "stack"
        check(one)


def test_monitor_with_an_unknown_field_is_refused(helm: Helm, check: Check) -> None:
    monitors = (one for one in helm.template(WATCHED) if one["kind"] == "PodMonitor")
    wrong = next(monitors)
    wrong["spec"]["podMetricsEndpoint"] = []
    with pytest.raises(CommandError, match="podMetricsEndpoint"):
        check(wrong)


def test_example_of_a_queue_is_taken_by_kueues_own_definitions(
    check: Check, own_cluster: Cluster
) -> None:
    own_cluster.kubernetes.namespace("research")
    serve_runs(own_cluster.kubernetes)
    for one in examples("kueue"):
        check(one)


def test_queue_with_an_unknown_field_is_refused(check: Check) -> None:
    (queue,) = (one for one in examples("kueue") if one["kind"] == "ClusterQueue")
    queue["spec"]["resourceGroup"] = []
    with pytest.raises(CommandError, match="resourceGroup"):
        check(queue)
