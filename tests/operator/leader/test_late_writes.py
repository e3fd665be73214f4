"""A leader frozen on the way to the API server wakes up after its time: its write changes nothing.

It has asked whether it leads, and was told so; what is left are the preconditions of its writes,
and the new leader, which removes a job that nobody wants.
"""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

Replicas = Callable[..., tuple[OperatorProcess, OperatorProcess]]

FREEZING = Path(__file__).parent / "freezing_operator.py"
STRIDE = int(os.environ.get("RLHF_TEST_FREEZE_STRIDE", "10"))
"""How many writes lie between two points; `make test-crashes` tries every one."""

MOST_POINTS = 80
OWN = ("rlhfruns", "pytorchjobs", "configmaps", "events")


@pytest.fixture
def freezing(replicas: Replicas) -> Callable[[int], tuple[OperatorProcess, OperatorProcess]]:
    """Make a leader that freezes at a write, and the one that takes over soon."""

    def freezing(point: int) -> tuple[OperatorProcess, OperatorProcess]:
        frozen, other = replicas("--lease-seconds=3")
        frozen.program, frozen.environment = (
            (str(FREEZING),),
            {
                "FREEZE_AT": str(point),
                "FREEZE_RUN": f"late-{point}",
            },
        )
        return frozen, other

    return freezing


def test_late_write_of_a_frozen_leader_changes_nothing(
    freezing: Callable[[int], tuple[OperatorProcess, OperatorProcess]],
    own_cluster: Cluster,
    say: Callable[[str], None],
    record: Callable[..., None],
) -> None:
    late: list[str] = []
    for point in itertools.count(1, STRIDE):
        assert point < MOST_POINTS, "the leader never ran out of writes"
        frozen, other = freezing(point)
        frozen.start()
        other.begin()
        own_cluster.kubernetes.apply(manifest("led", f"late-{point}", **ending("200ms")))
        run = Run(own_cluster.kubernetes, "led", f"late-{point}")
        until(lambda one=frozen, run=run: is_stopped(one) or is_over(run), "either")
        if not is_stopped(frozen):
            break
        run.wait("Finished", reason="Completed")
        until(other.leads, other.tail)
        until(lambda run=run: len(run.jobs()) == 1, "the successor to clear away the other jobs")
        before, mark = settled(run), own_cluster.audit.mark()
        assert frozen.process is not None
        frozen.process.send_signal(signal.SIGCONT)
        assert frozen.process.wait(timeout=30) == 1, frozen.tail()
        sent = [
            f"{one.verb} {one.resource}: {one.code}"
            for one in own_cluster.audit.since(mark, user=frozen.user)
            if one.writes and one.resource in OWN
        ]
        assert sent, "the write that was on its way never came"
        until(
            lambda run=run, before=before: settled(run) == before,
            lambda run=run, before=before: f"{before}; now {settled(run)}",
        )
        say(f"frozen at write {point}, woken after its successor's run: {', '.join(sent)}")
        record("late", point=point, sent=", ".join(sent))
        late += sent
        frozen.process = None
        other.kill()
        run.delete_unattended()
    assert late


def settled(run: Run) -> tuple[Any, Any]:
    """Return what must not change: the run to the byte, and which jobs there are."""
    jobs = run.kubernetes.get("pytorchjobs", "-n", run.namespace, "-l", f"rlhf.dev/run={run.name}")[
        "items"
    ]
    return run.object, [(one["metadata"]["name"], one["metadata"]["uid"]) for one in jobs]


def is_over(run: Run) -> bool:
    return run.condition("Finished").get("status") == "True"


def is_stopped(one: OperatorProcess) -> bool:
    assert one.process is not None
    stat = Path(f"/proc/{one.process.pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "T"
