"""What the local backend sees of attempts that another `rlhf run` has started."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf_operator.api import RunOutcome, RunStatus
from rlhf_operator.decide import Ended, NotStarted, Observed, Running
from rlhf_operator.local import LocalBackend
from rlhf_operator.local.processes import kill_and_wait, members, start
from rlhf_operator.reconcile import Reconciler
from rlhf_trainer.contract import Hardware, Phase


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that the test has to bury."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def one_pass(bench: Any, backend: LocalBackend) -> RunStatus:
    decision = asyncio.run(Reconciler(backend, bench.now).reconcile(bench.stored().key))
    assert decision is not None
    return decision.status


def seen(bench: Any, backend: LocalBackend) -> Observed:
    sight = asyncio.run(backend.observe(bench.stored().key))
    assert sight is not None
    return sight[1]


def orphan(
    bench: Any, launched: list[subprocess.Popen[bytes]], act: dict[str, Any]
) -> LocalBackend:
    """Start a run's first attempt by a backend that then forgets it, and return a new one."""
    bench.open()
    bench.plan(preparation=[act, {"exit": 0}])
    first = bench.backend()
    one_pass(bench, first)
    launched.extend(first._processes.values())
    first._processes.clear()
    return bench.backend()


def until(condition: Any) -> None:
    deadline = 20.0
    while not condition():
        deadline -= 0.01
        assert deadline > 0, "waited in vain"
        signal.sigtimedwait([], 0.01)


def test_observe_decided_and_not_started_attempt_is_not_started(bench: Any) -> None:
    bench.open()
    backend = bench.backend()
    run, observed = asyncio.run(backend.observe(bench.stored().key))
    decision = asyncio.run(Reconciler(backend, bench.now).reconcile(run.key))
    assert observed.executions == {}
    bench.attempt(Phase.PREPARATION).config.unlink()
    (execution,) = seen(bench, backend).executions.values()
    assert decision is not None
    assert execution == NotStarted()
    backend.close()


def test_observe_other_run_is_gone(bench: Any) -> None:
    run = bench.open()
    other = run.key._replace(name="other")
    assert asyncio.run(bench.backend().observe(other)) is None


def test_observe_live_process_of_an_earlier_run_is_adopted(
    bench: Any, launched: list[subprocess.Popen[bytes]]
) -> None:
    backend = orphan(bench, launched, {"wait": True, "steps": 4})
    until(bench.attempt(Phase.PREPARATION).progress.exists)
    (execution,) = seen(bench, backend).executions.values()
    assert isinstance(execution, Running)
    assert execution.progress.step == 4
    backend.suspended = True
    one_pass(bench, backend)
    launched[0].wait()
    status = one_pass(bench, backend)
    assert status.phase == "Suspended"
    assert status.phases[0].failures == 0


def test_observe_attempt_that_ended_unwatched_keeps_its_result(
    bench: Any, launched: list[subprocess.Popen[bytes]]
) -> None:
    backend = orphan(bench, launched, {"exit": 11})
    launched[0].wait()
    assert one_pass(bench, backend).outcome is RunOutcome.GATE_FAILED


def test_observe_attempt_that_vanished_is_disrupted_and_uncounted(
    bench: Any, launched: list[subprocess.Popen[bytes]]
) -> None:
    backend = orphan(bench, launched, {"wait": True})
    kill_and_wait(bench.workspace.root, 10)
    launched[0].wait()
    (execution,) = seen(bench, backend).executions.values()
    assert isinstance(execution, Ended)
    assert execution.disrupted
    status = one_pass(bench, backend)
    assert status.phases[0].attempts == 2
    assert status.phases[0].failures == 0
    backend.close()


def test_observe_unreadable_result_is_none(bench: Any) -> None:
    bench.plan(preparation=[{"exit": 0, "result": None}])
    bench.listener.at_look = lambda status: (
        bench.attempt(Phase.PREPARATION).result.write_text('{"phase": "Prep')
        if status.phases[0].state == "Running"
        else None
    )
    status = bench.drive()
    assert status.outcome is RunOutcome.COMPLETED


def test_apply_stop_twice_asks_once(bench: Any, launched: list[subprocess.Popen[bytes]]) -> None:
    backend = orphan(bench, launched, {"wait": True, "deaf": True})
    until(bench.attempt(Phase.PREPARATION).progress.exists)
    backend.suspended = True
    one_pass(bench, backend)
    one_pass(bench, backend)
    assert len(backend._asked_to_end) == 1
    assert members(bench.workspace.root) == [launched[0].pid]


def test_preparation_is_told_where_phases_run_and_no_memory_that_could_refuse(
    bench: Any, launched: list[subprocess.Popen[bytes]]
) -> None:
    backend = orphan(bench, launched, {"wait": True})
    live = seen(bench, backend).executions
    (key,) = live
    hardware = Hardware.from_json(backend.paths(key).hardware.read_text("utf-8"))
    assert {place.memory_bytes for place in hardware.places.values()} == {None}
    assert set(hardware.places) == set(Phase) - {Phase.PREPARATION}
    backend.close()


def test_start_missing_launcher_is_told(bench: Any) -> None:
    bench.open()
    backend = LocalBackend(bench.workspace, bench.folder, ("/nowhere/python",))
    with pytest.raises(Exception, match="/nowhere/python: cannot be started"):
        one_pass(bench, backend)


def test_members_of_a_folder_are_those_of_the_attempts_below(
    bench: Any, launched: list[subprocess.Popen[bytes]]
) -> None:
    folder = bench.folder / "iteration-1"
    folder.mkdir()
    launched.append(start(["sleep", "60"], folder / "attempt-1", bench.folder / "log.txt"))
    # A process has its arguments only once it has become another program.
    until(lambda: members(folder) == [launched[0].pid])
    assert members(folder / "attempt-1") == [launched[0].pid]
    assert members(folder / "attempt-10") == []
    assert members(folder / "attempt") == []
    os.kill(launched[0].pid, signal.SIGKILL)
