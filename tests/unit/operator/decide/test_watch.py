"""The guard from outside: steps, patience, restarts, and who enforces."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import (
    AttemptKey,
    ConditionStatus,
    ConditionType,
    PhaseStatus,
    RLHFRun,
    StoppedBy,
)
from rlhf_operator.decide import AttemptProgress, Running
from rlhf_operator.decide.watch import watched
from rlhf_trainer.contract import Outcome, Phase, Result

Tell = Callable[..., object]

PPO = PhaseStatus(iteration=1, phase=Phase.PPO)

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


INTERRUPTED = pytest.mark.parametrize(
    "how",
    [
        pytest.param({"code": 143}, id="drained"),
        pytest.param({"code": 137}, id="crashed"),
        pytest.param({"code": None, "disrupted": True}, id="lost"),
    ],
)


@INTERRUPTED
def test_attempt_that_goes_before_it_can_be_stopped_is_not_tried_again(
    tell: Tell, how: dict[str, object]
) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(1.0, 40.0))
    assert story.started(story.ended(**how)) == []
    assert story.status.outcome == "Stopped"
    assert story.phase.state == "Stopped"
    stop = story.status.stop
    assert (stop.reason, stop.by) == ("KLCeilingExceeded", StoppedBy.OPERATOR)
    assert (stop.step, stop.kl_nats, stop.certified_step) == (1, 40.0, 0)
    condition = story.condition(ConditionType.KL_WITHIN_LIMIT)
    assert condition == (ConditionStatus.FALSE, "KLCeilingExceeded")


@INTERRUPTED
def test_breach_that_is_read_only_as_the_attempt_goes_ends_the_run(
    tell: Tell, how: dict[str, object]
) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.ended(**how, progress=shown(1.0, 12.0, 13.0).progress)
    assert story.status.outcome == "Stopped"
    assert story.status.stop.step == 2


def test_breach_that_is_not_ours_any_more_as_the_attempt_goes_ends_nothing(
    tell: Tell, build_run: Callable[..., RLHFRun]
) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(40.0))
    theirs = build_run(*LIMITS, "spec.guard.kl.enforcedBy=[Trainer]").spec
    story.run = story.run.model_copy(update={"spec": theirs})
    assert story.started(story.ended(143)) == [AttemptKey(1, Phase.PPO, 2)]


def test_streak_goes_on_in_the_next_attempt(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, shown(1.0, 12.0, first=4))
    story.ended(143)
    assert story.phase.running.watch is None
    story.after(1, shown(13.0, first=6))
    watch = story.phase.running.watch
    assert (watch.breach, watch.breach_step) == ("KLLimitExceeded", 6)


def test_streak_of_steps_read_only_as_the_attempt_goes_is_not_lost(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.ended(143, progress=shown(12.0, first=5).progress)
    story.after(1, shown(13.0, first=6))
    assert story.phase.running.watch.breach_step == 6


def test_streak_outlives_an_attempt_that_measures_nothing(tell: Tell) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.ended(143, progress=shown(12.0, first=5).progress)
    story.ended(143)
    story.after(10)
    story.after(1, shown(13.0, first=6))
    assert story.phase.running.watch.breach_step == 6


@pytest.mark.parametrize(
    ("before", "again", "streak", "breach"),
    [
        pytest.param({5: 12.0}, {5: 12.0}, 1, None, id="same-step"),
        pytest.param({5: 12.0}, {5: 12.0, 6: 12.0}, 0, 6, id="same-step-and-on"),
        pytest.param({5: 12.0}, {4: 1.0, 5: 12.0}, 1, None, id="older-checkpoint"),
        pytest.param({4: 12.0, 5: 1.0}, {4: 12.0, 5: 1.0, 6: 12.0}, 1, None, id="streak-was-over"),
        pytest.param({4: 1.0, 5: 12.0}, {5: 1.0, 6: 12.0}, 1, None, id="other-values"),
        pytest.param({5: 12.0}, {0: 12.0, 1: 12.0}, 0, 1, id="anew-from-the-start"),
        pytest.param({5: 12.0}, {8: 12.0}, 1, None, id="steps-that-nobody-saw"),
    ],
)
def test_steps_that_are_taken_again_count_once(
    tell: Tell, before: dict[int, float], again: dict[int, float], streak: int, breach: int | None
) -> None:
    story = tell(*LIMITS).in_ppo()
    story.after(0)
    story.after(1, Running(AttemptProgress(kl_nats=tuple(before.items()))))
    story.ended(137)
    story.after(10)
    story.after(1, Running(AttemptProgress(kl_nats=tuple(again.items()))))
    watch = story.phase.running.watch
    assert (watch.last_step, watch.kl_streak) == (max(again), streak)
    assert watch.breach_step == breach


def test_streak_of_three_that_is_cut_in_the_middle_counts_what_lies_before(tell: Tell) -> None:
    story = tell(*LIMITS, "spec.guard.kl.consecutiveSteps=4").in_ppo()
    story.after(0)
    story.after(1, shown(1.0, 11.0, 12.0, 13.0, first=4))
    story.ended(137)
    story.after(10)
    story.after(1, shown(12.0, first=6))
    assert story.phase.running.watch.kl_streak == 2
    story.after(30, shown(13.0, 14.0, first=7))
    assert story.phase.running.watch.breach_step == 8


def test_ceiling_that_was_passed_before_is_no_rise_in_the_next_attempt(
    tell: Tell, build_run: Callable[..., RLHFRun]
) -> None:
    story = tell(*LIMITS, "spec.guard.kl.action=Warn").in_ppo()
    story.after(0)
    story.after(1, shown(40.0, first=5))
    story.ended(143)
    story.run = story.run.model_copy(update={"spec": build_run(*LIMITS).spec})
    story.after(1, shown(41.0, first=6))
    assert story.phase.running.watch.breach is None
    story.after(30, shown(42.0, first=7))
    assert story.phase.running.watch.breach == "KLLimitExceeded"


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
    once = watched(PPO, None, [(1, 12.0)], spec, noon)
    assert watched(PPO, once, [(1, 12.0)], spec, noon) == once
    assert watched(PPO, once, [(1, 12.0), (2, 12.0)], spec, noon).breach == "KLLimitExceeded"


def test_measurement_that_is_no_number_is_left_to_the_trainer(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    spec = build_run(*LIMITS).spec
    seen = watched(PPO, None, [(1, 12.0), (2, float("nan")), (3, 12.0)], spec, noon)
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


def test_steps_of_before_are_not_judged_once_the_operator_is_to_enforce(
    tell: Tell, build_run: Callable[..., RLHFRun]
) -> None:
    story = tell(*LIMITS, "spec.guard.kl.enforcedBy=[Trainer]").in_ppo()
    story.after(0)
    story.after(1, shown(40.0, 12.0, 12.0, 12.0))
    watch = story.phase.running.watch
    assert (watch.last_step, watch.breach) == (3, None)
    story.run = story.run.model_copy(update={"spec": build_run(*LIMITS).spec})
    story.after(30, shown(40.0, 12.0, 12.0, 12.0))
    assert story.phase.running.watch.breach is None
    story.after(30, shown(12.0, 12.0, first=4))
    assert story.phase.running.watch.breach == "KLLimitExceeded"


@pytest.mark.parametrize(
    "overrides", [("spec.guard.kl.enforcedBy=[Trainer]",), ()], ids=["trainer", "both"]
)
def test_steps_are_judged_in_ppo_alone(
    build_run: Callable[..., RLHFRun], noon: datetime, overrides: tuple[str, ...]
) -> None:
    spec = build_run(*LIMITS, *overrides).spec
    sft = PhaseStatus(iteration=1, phase=Phase.SFT)
    assert watched(sft, None, [(1, 40.0)], spec, noon) is None
    assert watched(PPO, None, [(1, 40.0)], spec, noon).last_step == 1
