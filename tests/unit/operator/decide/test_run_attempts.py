"""One pass after the other: retries, pauses, deadlines, hangs, progress."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rlhf_operator.api import (
    AttemptKey,
    ConditionType,
    PhaseState,
    RunOutcome,
    StoppedBy,
)
from rlhf_operator.decide import (
    AttemptProgress,
    Ended,
    NotStarted,
    Running,
)
from rlhf_trainer.contract import Phase

Tell = Callable[..., Any]
"""Begins a story: see conftest."""


def test_decide_crash_names_the_node_that_the_next_attempt_should_avoid(tell: Tell) -> None:
    story = tell()
    story.after(0)
    story.ended(1, node="node-7")
    assert story.phase.avoid_node == "node-7"


def test_decide_crash_backs_off_and_tries_again(tell: Tell) -> None:
    story = tell()
    story.after(0)
    decision = story.ended(1)
    assert decision.actions == ()
    assert story.phase.state is PhaseState.BACKING_OFF
    assert story.phase.last_failure == "attempt 1: it ended with exit code 1"
    assert story.status.phase == "BackingOff"
    assert story.condition(ConditionType.PROGRESSING) == ("True", "BackingOff")
    assert decision.wake_at == story.now + timedelta(seconds=10)
    assert story.after(9).actions == ()
    assert story.started(story.after(1)) == [AttemptKey(1, Phase.PREPARATION, 2)]


@pytest.mark.parametrize(
    ("limit", "attempts"), [pytest.param(0, 1, id="none"), pytest.param(3, 4, id="three")]
)
def test_decide_crashes_without_progress_exhaust_retries(
    tell: Tell, limit: int, attempts: int
) -> None:
    story = tell(f"spec.runPolicy.backoffLimit={limit}")
    story.after(0)
    while story.status.outcome is None:
        story.ended(137)
        if story.status.outcome is None:
            story.after(400)
    assert story.phase.attempts == attempts
    assert story.status.outcome is RunOutcome.RETRIES_EXHAUSTED
    assert story.status.outcome.exit_code == 40
    assert story.status.stop is not None
    assert story.status.stop.message.endswith(f"raise spec.runPolicy.backoffLimit={limit}")


def test_decide_new_checkpoints_begin_the_count_anew(tell: Tell) -> None:
    story = tell("spec.runPolicy.backoffLimit=1").in_ppo()
    for checkpoint in (None, 10, None, 20):
        story.ended(1, progress=AttemptProgress(checkpoint_step=checkpoint))
        assert story.status.outcome is None
        story.after(400)
    assert story.phase.failures == 0
    story.ended(1, progress=AttemptProgress(checkpoint_step=20))
    assert story.phase.failures == 1


def test_decide_checkpoint_seen_while_running_counts(tell: Tell) -> None:
    story = tell("spec.runPolicy.backoffLimit=0").in_ppo()
    story.after(1, Running(AttemptProgress(step=10, checkpoint_step=10)))
    story.ended(1)
    assert story.status.outcome is None


@pytest.mark.parametrize(
    ("code", "disrupted"),
    [
        pytest.param(143, False, id="preempted"),
        pytest.param(137, True, id="evicted"),
        pytest.param(None, True, id="vanished"),
    ],
)
def test_decide_interrupted_attempt_is_followed_and_uncounted(
    tell: Tell,
    code: int | None,
    disrupted: bool,  # noqa: FBT001 -- a column of the table
) -> None:
    story = tell("spec.runPolicy.backoffLimit=0")
    story.after(0)
    decision = story.ended(code, disrupted=disrupted)
    assert story.started(decision) == [AttemptKey(1, Phase.PREPARATION, 2)]
    for number, pause in ((3, 10), (4, 20), (5, 40)):
        decision = story.ended(code, disrupted=disrupted)
        assert story.started(decision) == []
        assert decision.wake_at == story.now + timedelta(seconds=pause)
        decision = story.after(pause)
        assert story.started(decision) == [AttemptKey(1, Phase.PREPARATION, number)]
    assert story.phase.failures == 0
    assert story.status.outcome is None


def test_decide_interruptions_with_a_checkpoint_between_are_followed_at_once(tell: Tell) -> None:
    story = tell().in_ppo()
    story.after(0)
    for step in range(1, 5):
        progress = AttemptProgress(checkpoint_step=step)
        decision = story.ended(143, progress=progress)
        assert story.started(decision) == [AttemptKey(1, Phase.PPO, step + 1)]


def test_decide_suspended_stops_what_is_alive_and_starts_nothing(tell: Tell) -> None:
    story = tell()
    story.after(0)
    assert story.stopped(story.after(5, Running(), suspended=True)) == [("Suspended", 300)]
    assert story.stopped(story.after(100, Running(), suspended=True)) == [("Suspended", 200)]
    assert story.condition(ConditionType.PROGRESSING) == ("True", "Stopping")
    decision = story.after(1, Ended(143), suspended=True)
    assert decision.actions == ()
    assert story.status.phase == "Suspended"
    assert story.condition(ConditionType.PROGRESSING) == ("False", "Suspended")
    assert story.started(story.after(1000)) == [AttemptKey(1, Phase.PREPARATION, 2)]
    assert story.phase.failures == 0


def test_decide_suspended_before_the_start_gives_the_attempt_up(tell: Tell) -> None:
    story = tell()
    story.after(0)
    assert story.after(1, NotStarted(), suspended=True).actions == ()
    assert story.phase.state is PhaseState.PENDING
    assert story.started(story.after(1)) == [AttemptKey(1, Phase.PREPARATION, 2)]


def test_decide_suspended_attempt_that_completes_is_complete(tell: Tell) -> None:
    story = tell()
    story.after(0)
    story.after(1, Running(), suspended=True)
    story.after(1, Ended(0), suspended=True)
    assert story.status.phases[0].state is PhaseState.SUCCEEDED
    assert story.phase.attempts == 0


def test_decide_grace_period_over_leaves_none(tell: Tell) -> None:
    story = tell("spec.runPolicy.terminationGracePeriodSeconds=20")
    story.after(0)
    decision = story.after(0, Running(), suspended=True)
    assert decision.wake_at == story.now + timedelta(seconds=20)
    assert story.stopped(story.after(20, Running(), suspended=True)) == [("Suspended", 0)]


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        pytest.param("activeDeadlineSeconds", "DeadlineExceeded", id="run"),
        pytest.param("phaseDeadlineSeconds", "PhaseDeadlineExceeded", id="phase"),
    ],
)
def test_decide_deadline_stops_first_and_ends_then(tell: Tell, limit: str, reason: str) -> None:
    story = tell(f"spec.runPolicy.{limit}=100")
    decision = story.after(0)
    assert decision.wake_at == story.now + timedelta(seconds=100)
    assert story.after(99, Running()).actions == ()
    assert story.stopped(story.after(1, Running())) == [(reason, 300)]
    assert story.status.stop is not None
    assert story.status.stop.by is StoppedBy.OPERATOR
    assert story.status.outcome is None
    story.ended(143)
    assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
    assert story.status.outcome.exit_code == 41
    assert story.phase.state is PhaseState.STOPPED


def test_decide_recorded_stop_stands_whatever_the_attempt_says(tell: Tell) -> None:
    for code in (0, 10, 20, 143, 1):
        story = tell("spec.runPolicy.activeDeadlineSeconds=100")
        story.after(0)
        story.after(100, Running())
        story.ended(code)
        assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
        done = story.status.phases[0].state is PhaseState.SUCCEEDED
        assert done == (code == 0)


def test_decide_deadline_between_attempts_ends_at_once(tell: Tell) -> None:
    story = tell("spec.runPolicy.activeDeadlineSeconds=12")
    story.after(0)
    story.ended(1)
    story.after(7)
    assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
    assert story.phase.state is PhaseState.STOPPED
    assert story.phase.next_attempt_time is None


@pytest.mark.parametrize("field", ["activeDeadlineSeconds", "phaseDeadlineSeconds"])
def test_decide_deadline_says_which_field_to_raise(tell: Tell, field: str) -> None:
    story = tell(f"spec.runPolicy.{field}=100")
    story.after(0)
    story.after(100, Running())
    assert story.status.stop is not None
    assert story.status.stop.message.endswith(f"raise spec.runPolicy.{field}=100")


def test_decide_deadline_leaves_pauses_out(tell: Tell) -> None:
    story = tell("spec.runPolicy.activeDeadlineSeconds=100")
    story.after(0)
    story.after(50, Ended(143), suspended=True)
    story.after(1000, suspended=True)
    decision = story.after(1000)
    assert story.status.stop is None
    assert decision.wake_at == story.now + timedelta(seconds=50)
    story.after(50, Running())
    assert story.status.stop is not None


def test_decide_still_heartbeat_is_a_counted_failure(tell: Tell) -> None:
    story = tell("spec.runPolicy.hangTimeoutSeconds=60")
    story.after(0)
    still = Running(AttemptProgress(heartbeat=7))
    decision = story.after(1, still)
    assert decision.wake_at == story.now + timedelta(seconds=60)
    assert story.after(59, still).actions == ()
    assert story.stopped(story.after(1, still)) == [("Hung", 300)]
    story.ended(143)
    assert story.phase.failures == 1
    assert story.phase.state is PhaseState.BACKING_OFF


def test_decide_moving_or_unreadable_heartbeat_is_no_hang(tell: Tell) -> None:
    story = tell("spec.runPolicy.hangTimeoutSeconds=60")
    story.after(0)
    for beat in (1, 2, None, 3, None):
        assert story.after(59, Running(AttemptProgress(heartbeat=beat))).actions == ()


def test_decide_progress_is_written_every_half_minute_at_most(tell: Tell) -> None:
    story = tell().in_ppo()
    steps = []
    for step in range(1, 13):
        story.after(10, Running(AttemptProgress(step=step, certified_step=step - 1)))
        steps.append(story.phase.step)
    assert steps == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10, 10, 10]
    assert story.phase.certified_step == 9


def test_decide_progress_waits_while_other_writes_do_but_not_for_ever(tell: Tell) -> None:
    story = tell().in_ppo()
    steps = []
    for step in range(1, 13):
        story.after(50, Running(AttemptProgress(step=step)), busy=step > 1)
        steps.append(story.phase.step)
    assert steps == [1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 7, 7]
    story.after(20, Running(AttemptProgress(step=13)))
    assert story.phase.step == 13


def test_decide_progress_waits_while_too_many_other_writes_do(tell: Tell) -> None:
    story = tell().in_ppo()
    story.after(20, Running(AttemptProgress(step=1)))
    for step in range(2, 20):
        story.after(60, Running(AttemptProgress(step=step)), busy=True, crowded=True)
    assert story.phase.step == 1
    story.after(1, Running(AttemptProgress(step=20)), busy=True)
    assert story.phase.step == 20


def test_decide_first_progress_waits_while_other_writes_do_for_half_a_minute(tell: Tell) -> None:
    story = tell().in_ppo()
    began = story.phase.running
    assert began is not None
    story.now = began.start_time
    story.after(29, Running(AttemptProgress(step=1)), busy=True)
    assert story.phase.step is None
    story.after(1, Running(AttemptProgress(step=2)), busy=True)
    assert story.phase.step == 2
