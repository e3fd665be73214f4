"""What one run asks for keeps nobody else waiting."""

import json
from collections.abc import Callable

from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

NAMESPACE = "strange"

LEVELS = 5000
"""The API server takes twice as many; Python reads a thousand of itself."""


def test_run_that_is_nested_deeply_is_refused_and_stops_nobody(
    apply: Callable[..., Run], operator: OperatorProcess, own_cluster: Cluster
) -> None:
    kubernetes = own_cluster.kubernetes
    apply(NAMESPACE, "before", **ending("100ms")).wait("Finished")
    run = manifest(NAMESPACE, "nested", deepspeed={"overrides": {"x": "HERE"}})
    text = json.dumps(run).replace('"HERE"', "[" * LEVELS + "]" * LEVELS)
    kubernetes.kubectl("create", "-f", "-", stdin=text)
    condition = '{.status.conditions[?(@.type=="Accepted")]'
    place = ("rlhfrun", "nested", "-n", NAMESPACE)

    def told(field: str) -> str:
        return kubernetes.kubectl("get", *place, "-o", f"jsonpath={condition}.{field}}}")

    try:
        until(lambda: told("reason") == "Unreadable", operator.tail)
        assert "nested more than 10 deep" in told("message")
        operator.stop()
        operator.start()
        apply(NAMESPACE, "after", **ending("100ms")).wait("Finished")
    finally:
        kubernetes.kubectl("delete", *place)
