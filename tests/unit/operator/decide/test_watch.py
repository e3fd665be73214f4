"""The guard from outside: steps, patience, restarts, and who enforces."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import ConditionStatus, ConditionType, RLHFRun, StoppedBy
from rlhf_operator.decide import AttemptProgress, Running
from rlhf_operator.decide.watch import watched
from rlhf_trainer.contract import Outcome, Phase, Result

Tell = Callable[..., object]

LIMITS = ("spec.guard.kl.limitNats=10", "spec.guard.kl.ceilingNats=30")


def shown(*kl_nats: float, first: int = 0) -> Running:
    steps = tuple(enumerate(kl_nats, start=first))
    return Running(AttemptProgress(kl_nats=steps, metrics_available=True, certified_step=first))


def test_breach_is_written_at_once_and_ends_the_attempt_two_readings_later(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(1.0))
    assert story.phase.running.watch.last_step == 0
    decision = story.after(1, shown(12.0, 13.0, first=1))
    assert story.phase.running.watch.breach == "KLLimitExceeded"
    assert story.status.stop is None
    assert decision.wake_at == story.now + timedelta(seconds=30)
    assert story.stopped(story.after(29, shown())) == []
    assert story.stopped(story.after(1, shown())) == [("KLLimitExceeded", 300)]
    stop = story.status.stop
    assert stop.by is StoppedBy.OPERATOR
    assert (stop.step, stop.kl_nats, stop.limit_nats) == (2, 13.0, 10.0)
    assert "13 at step 2" in stop.message
    condition = story.condition(ConditionType.KL_WITHIN_LIMIT)
    assert condition == (ConditionStatus.FALSE, "KLLimitExceeded")
    story.ended(143)
    assert story.status.outcome == "Stopped"


def test_breach_is_the_trainers_if_it_ends_by_itself(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(40.0))
    assert story.phase.running.watch.breach == "KLCeilingExceeded"
    story.ended(10)
    assert story.status.stop.by is StoppedBy.TRAINER


def test_breach_survives_a_restart_of_the_operator(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(40.0))
    # A new process has read nothing yet.
    assert story.stopped(story.after(30, Running())) == [("KLCeilingExceeded", 300)]


def test_last_measurement_outlives_an_attempt_that_was_asked_to_end(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    progress = AttemptProgress(
        kl_nats=((1, 40.0),), metrics={"klNats": 40.0, "rewardScore": 1.5}, metrics_available=True
    )
    story.after(1, Running(progress))
    story.after(30, Running(progress))
    result = Result(
        phase=Phase.PPO,
        outcome=Outcome.PREEMPTED,
        message="preempted",
        step=2,
        metrics={"klLimitNats": 10.0},
    )
    story.ended(143, result=result)
    assert story.status.outcome == "Stopped"
    assert story.status.headline.kl_nats == 40.0
    assert story.phase.metrics == {"klNats": 40.0, "rewardScore": 1.5, "klLimitNats": 10.0}


def test_phase_that_completes_before_it_can_be_stopped_is_stopped_all_the_same(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(40.0))
    assert story.phase.running.watch.breach == "KLCeilingExceeded"
    story.ended(0)
    assert story.status.outcome == "Stopped"
    assert story.status.stop.by is StoppedBy.OPERATOR
    assert story.status.stop.kl_nats == 40.0


def test_stop_names_what_was_certified_last(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, Running(AttemptProgress(kl_nats=((4, 40.0),), certified_step=3)))
    story.after(30, Running(AttemptProgress(certified_step=5)))
    assert story.status.stop.checkpoint.endswith("step-5")
    story.ended(143, progress=AttemptProgress(certified_step=6))
    assert story.status.outcome == "Stopped"
    assert story.status.stop.certified_step == 6
    assert story.status.stop.checkpoint.endswith("step-6")


@pytest.mark.parametrize(
    "overrides",
    [
        ("spec.guard.kl.enforcedBy=[Trainer]",),
        ("spec.guard.kl.action=Warn",),
    ],
    ids=["trainer-only", "warn"],
)
def test_breach_that_is_not_ours_to_enforce_ends_nothing(
    tell: Tell, overrides: tuple[str, ...]
) -> None:
    story = tell(*LIMITS, *overrides).in_ppo()
    story.after(0)
    story.after(1, shown(40.0, 50.0, 60.0))
    assert story.stopped(story.after(300, shown(70.0, first=3))) == []
    assert story.status.stop is None


def test_step_seen_twice_is_judged_once(build_run: Callable[..., RLHFRun], noon: datetime) -> None:
    spec = build_run(*LIMITS).spec
    once = watched(None, [(1, 12.0)], spec, noon)
    assert watched(once, [(1, 12.0)], spec, noon) == once
    assert watched(once, [(1, 12.0), (2, 12.0)], spec, noon).breach == "KLLimitExceeded"


def test_measurement_that_is_no_number_is_left_to_the_trainer(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    spec = build_run(*LIMITS).spec
    seen = watched(None, [(1, 12.0), (2, float("nan")), (3, 12.0)], spec, noon)
    assert seen.breach_step == 3


def test_certified_checkpoint_of_a_later_step_is_one_of_this_phase(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    progress = AttemptProgress(kl_nats=((4, 40.0),), certified_step=3)
    story.after(1, Running(progress))
    story.after(30, Running(progress))
    assert story.status.stop.checkpoint == "iteration-1/ppo/attempt-1/checkpoints/step-3"
    assert story.phase.phase is Phase.PPO


def test_breach_does_not_wait_while_other_writes_do(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0, busy=True)
    story.after(1, shown(40.0), busy=True, crowded=True)
    assert story.phase.running.watch.breach == "KLCeilingExceeded"
