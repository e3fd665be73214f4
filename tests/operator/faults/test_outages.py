"""Parts of the control plane die, and come back."""

import os
import time
from collections.abc import Callable

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run

Begin = Callable[..., list[Run]]
End = Callable[..., None]
Record = Callable[..., None]
Say = Callable[[str], None]

OUTAGE_SECONDS = float(os.environ.get("RLHF_TEST_OUTAGE_SECONDS", "20"))
"""Longer than a leader relies on its lease; `make soak` takes a minute."""

LIVE = 20

RETRIED_SECONDS = 300.0
"""When scheduler and KWOK try again what they could not write to a pod."""


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd", "kube-controller-manager"])
def test_runs_survive_the_crash_of_a_component(
    kept: OperatorProcess,
    own_cluster: Cluster,
    begin: Begin,
    runs_end: End,
    record: Record,
    component: str,
) -> None:
    runs = begin([f"{component}-{index}" for index in range(3)], after="2s")

    def begun(phase: str) -> bool:
        # Some end only a while after the crash, when they could not renew a lease.
        own_cluster.tend()
        kept.tend()
        return any(run.phase(phase).get("attempts") for run in runs)

    for phase in ("Preparation", "SFT", "PPO"):
        until(
            lambda phase=phase: begun(phase),
            lambda phase=phase: f"{phase} to begin; {runs[0].seen()}",
            timeout_seconds=RETRIED_SECONDS + 60,
        )
        own_cluster[component].restart()
    # They need not be waited for.
    for player in ("kube-scheduler", "kwok"):
        own_cluster[player].restart()
    answered = component == "kube-controller-manager"
    runs_end(kept, runs, seconds=240, meanwhile=own_cluster.tend, answered=answered)
    record("faults", fault=f"{component} killed", runs=3, counts={"times": 3})


def test_runs_survive_an_outage(
    kept: OperatorProcess,
    own_cluster: Cluster,
    begin: Begin,
    runs_end: End,
    say: Say,
    record: Record,
) -> None:
    runs = begin([f"outage-{index}" for index in range(LIVE)], after="5s")
    until(lambda: all(run.jobs() for run in runs), "all of them to run", timeout_seconds=60)
    apiserver = own_cluster["kube-apiserver"]
    apiserver.kill()
    end = time.monotonic() + OUTAGE_SECONDS
    until(lambda: kept.tend() or time.monotonic() > end, "its end", timeout_seconds=120)
    apiserver.start()
    began = time.monotonic()
    runs_end(kept, runs, seconds=300, meanwhile=own_cluster.tend, answered=False)
    say(
        f"{LIVE} runs completed {time.monotonic() - began:.0f} s after an outage of "
        f"{OUTAGE_SECONDS:g} s; the operator was restarted {kept.restarts} times"
    )
    record(
        "faults",
        fault=f"API server away for {OUTAGE_SECONDS:g} s",
        runs=LIVE,
        counts={"times": 1, "restarts of the operator": kept.restarts},
    )
