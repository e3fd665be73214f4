"""Requests fail, before or after they were carried out; watches break off and forget."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from faulty_proxy import FaultyProxy
from operating import OperatorProcess
from rlhf_harness import Cluster, control_plane
from rlhf_harness.waiting import until
from runs import Run

Begin = Callable[..., list[Run]]
End = Callable[..., None]
Record = Callable[..., None]
Say = Callable[[str], None]

ROUNDS = int(os.environ.get("RLHF_TEST_FAULT_ROUNDS", "1"))
"""`make soak` asks for more."""

RUNS_PER_ROUND = 5


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_requests_that_fail_are_repeated_and_nothing_is_done_twice(
    behind: OperatorProcess,
    proxy: FaultyProxy,
    begin: Begin,
    runs_end: End,
    say: Say,
    record: Record,
    round_: int,
) -> None:
    proxy.rng, proxy.failing = np.random.default_rng(round_), 0.25
    runs = begin([f"errors-{round_}-{index}" for index in range(RUNS_PER_ROUND)])
    runs_end(behind, runs, seconds=300)
    proxy.failing = 0.0
    assert not behind.restarts, behind.tail()
    assert {"409", "429", "500"} == {what[:3] for what in proxy.injected if what[0] in "45"}
    told = ", ".join(f"{count} x {what}" for what, count in sorted(proxy.injected.items()))
    say(f"{RUNS_PER_ROUND} runs completed in spite of {told}")
    record("faults", fault="requests fail", runs=RUNS_PER_ROUND, counts=dict(proxy.injected))


def test_watches_that_break_off_are_begun_anew(
    behind: OperatorProcess,
    proxy: FaultyProxy,
    begin: Begin,
    runs_end: End,
    record: Record,
) -> None:
    drops = 0

    def drop() -> None:
        nonlocal drops
        proxy.drop_watches()
        drops += 1

    runs_end(behind, begin([f"watches-{index}" for index in range(3)]), meanwhile=drop)
    assert drops > 10
    assert not behind.restarts
    record("faults", fault="watches dropped", runs=3, counts={"times": drops})


def test_watch_whose_history_is_gone_is_begun_anew(
    behind: OperatorProcess,
    proxy: FaultyProxy,
    own_cluster: Cluster,
    begin: Begin,
    runs_end: End,
    record: Record,
) -> None:
    runs = begin(["compacted"], after="4s")
    until(runs[0].jobs, "its first job")
    proxy.refusing = True
    proxy.drop_watches()
    # What happens meanwhile is in no history that a watch could go on from.
    until(
        lambda: any(pod["status"]["phase"] == "Succeeded" for pod in runs[0].pods()),
        "its pod to complete unseen",
    )
    control_plane.compact(own_cluster.context)
    own_cluster["kube-apiserver"].restart()
    proxy.refusing = False
    runs_end(behind, runs, meanwhile=own_cluster.tend)
    assert not behind.restarts, behind.tail()
    assert proxy.relisted, "no watch was told that its history is gone"
    record("faults", fault="history compacted", runs=1, counts={"times": 1})


def test_right_taken_away_ends_the_process_and_a_fresh_one_waits_for_it(
    behind: OperatorProcess, proxy: FaultyProxy, begin: Begin, runs_end: End, record: Record
) -> None:
    runs = begin(["forbidden"], after="2s")
    until(runs[0].jobs, "its first job")
    proxy.forbidding = True
    proxy.drop_watches()
    assert behind.process is not None
    assert behind.process.wait(timeout=120) == 1
    assert "a watch has failed" in behind.tail()
    behind.tend()
    until(lambda: behind.is_serving() and behind.answer("/readyz")[0] == 503, behind.tail)
    assert "could not be listed" in behind.tail()
    proxy.forbidding = False
    runs_end(behind, runs)
    record("faults", fault="right taken away", runs=1, counts={"times": 1})
