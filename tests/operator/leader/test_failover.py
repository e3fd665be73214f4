"""The leader goes, in three ways, and the other one takes over."""

import signal
import time
from collections.abc import Callable

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

Replicas = Callable[..., tuple[OperatorProcess, OperatorProcess]]

WAYS = {"deleted": signal.SIGTERM, "killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
"""A pod that is deleted gets SIGTERM."""


@pytest.mark.parametrize("way", WAYS)
def test_other_replica_takes_over(
    replicas: Replicas,
    own_cluster: Cluster,
    say: Callable[[str], None],
    record: Callable[..., None],
    way: str,
) -> None:
    leader, standby = replicas()
    leader.start()
    standby.begin()
    until(lambda: standby.is_serving() and standby.answer("/readyz")[0] == 200, "the other one")
    assert not standby.leads()
    own_cluster.kubernetes.apply(manifest("led", way))
    run = Run(own_cluster.kubernetes, "led", way)
    run.wait("Progressing", "True", "AttemptRunning")
    until(run.jobs, "its job")
    assert leader.process is not None
    mark, began = own_cluster.audit.mark(), time.monotonic()
    leader.process.send_signal(WAYS[way])
    until(standby.leads, standby.tail, timeout_seconds=60)
    leads_seconds = time.monotonic() - began
    own_cluster.kubernetes.apply(manifest("led", f"{way}-next", **ending("100ms")))
    following = Run(own_cluster.kubernetes, "led", f"{way}-next")
    until(following.jobs, "the next run's first job")
    works_seconds = time.monotonic() - began
    say(f"leader {way}: the other leads after {leads_seconds:.1f} s")
    record("failover", fault=way, leadsSeconds=leads_seconds, worksSeconds=works_seconds)
    following.wait("Finished", reason="Completed")
    assert run.phase("Preparation")["attempts"] == 1, "what ran was left alone"
    if way == "frozen":
        leader.process.send_signal(signal.SIGCONT)
        assert leader.process.wait(timeout=30) == 1, leader.tail()
        assert "not leading any more" in leader.tail()
    created = [
        one.name
        for one in own_cluster.audit.since(mark, user=leader.user)
        if (one.verb, one.resource) == ("create", "pytorchjobs") and one.code < 300
    ]
    assert len(created) == len(set(created)) == 5, created
    run.delete()
