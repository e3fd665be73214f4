from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import AttemptKey, RLHFRun, RunOutcome, RunStatus
from rlhf_operator.decide import Ended, Observed, Running, decide, events
from rlhf_trainer.contract import Outcome, Phase, Result

Told = Callable[..., list[str]]
BuildRun = Callable[..., RLHFRun]

FIRST = AttemptKey(1, Phase.PREPARATION, 1)


@pytest.fixture
def told(see: Callable[..., Observed], noon: datetime) -> Told:
    """Tell what happens from one look to the next: each is (executions, suspended)."""

    def tell(run: RLHFRun, *looks: tuple[dict[AttemptKey, object], bool]) -> list[str]:
        lines: list[str] = []
        for index, (executions, suspended) in enumerate(looks):
            now = noon + timedelta(seconds=60 * index)
            status = decide(run, see(executions, suspended=suspended), now).status
            lines += [
                f"{'!' if event.is_warning else ''}{event.reason}: {event.message}"
                for event in events(run.status, status)
            ]
            run = run.model_copy(update={"status": status})
        assert events(run.status, run.status) == ()
        return lines

    return tell


def test_events_of_a_retry(told: Told, build_run: BuildRun) -> None:
    looks = (({}, False), ({FIRST: Ended(1)}, False), ({}, False))
    assert told(build_run(), *looks) == [
        "AttemptStarted: Preparation starts",
        (
            "!AttemptEnded: Preparation, attempt 1: it ended with exit code 1; "
            "next attempt at 12:01:10 UTC"
        ),
        "AttemptStarted: Preparation starts, attempt 2",
    ]


def test_events_of_an_interruption(told: Told, build_run: BuildRun) -> None:
    assert told(build_run(), ({}, False), ({FIRST: Ended(143)}, False))[1:] == [
        "!AttemptEnded: Preparation, attempt 1: it ended with exit code 143",
        "AttemptStarted: Preparation starts, attempt 2",
    ]


def test_events_of_skipped_and_complete_phases(told: Told, build_run: BuildRun) -> None:
    run = build_run("spec.sft.from.path=models/sft")
    assert told(run, ({}, False), ({FIRST: Ended(0)}, False)) == [
        "AttemptStarted: Preparation starts",
        "PhaseSkipped: SFT is skipped: models/sft takes its place",
        "PhaseSucceeded: Preparation is complete",
        "AttemptStarted: RewardModel starts",
    ]


def test_events_of_a_pause(told: Told, build_run: BuildRun) -> None:
    looks = (({}, False), ({FIRST: Running()}, True), ({FIRST: Ended(143)}, True), ({}, False))
    assert told(build_run(), *looks)[1:] == [
        "!AttemptEnded: Preparation, attempt 1: it was paused",
        "Suspended: the run pauses",
        "AttemptStarted: Preparation starts, attempt 2",
        "Resumed: the run goes on",
    ]


def test_events_of_an_end_tell_its_cause_once(told: Told, build_run: BuildRun) -> None:
    result = Result(phase=Phase.PREPARATION, outcome=Outcome.INVALID, message="bad data")
    assert told(build_run(), ({}, False), ({FIRST: Ended(20, result)}, False))[1:] == [
        "!Invalid: bad data",
        "!Finished: the run has ended: Invalid",
    ]


def test_events_of_a_completed_run_end_without_warning() -> None:
    status = RunStatus()
    done = status.evolve(outcome=RunOutcome.COMPLETED)
    assert [event.is_warning for event in events(status, done)] == [False]
