"""One pass after the other: order, ends, conditions, refusals."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from rlhf_operator.api import (
    AttemptKey,
    ConditionType,
    PhaseState,
    RLHFRun,
    RunOutcome,
    StoppedBy,
)
from rlhf_operator.decide import (
    AttemptProgress,
    Decision,
    Ended,
    NotStarted,
    Observed,
    Running,
    StartAttempt,
    decide,
)
from rlhf_operator.decide.run import REFUSED_INTERVAL
from rlhf_operator.errors import SpecError
from rlhf_trainer.contract import Outcome, Phase, Result

Tell = Callable[..., Any]
"""Begins a story: see conftest."""

BuildRun = Callable[..., RLHFRun]
See = Callable[..., Observed]


def test_decide_first_visit_sets_every_condition_and_starts_preparation(tell: Tell) -> None:
    story = tell()
    decision = story.after(0)
    assert story.started(decision) == [AttemptKey(1, Phase.PREPARATION, 1)]
    assert [condition.type for condition in story.status.conditions] == list(ConditionType)
    assert story.condition(ConditionType.ACCEPTED) == ("True", "Valid")
    assert story.condition(ConditionType.PROGRESSING) == ("True", "AttemptRunning")
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == ("Unknown", "NotMeasured")
    assert story.condition(ConditionType.SUCCEEDED) == ("Unknown", "Running")
    assert story.condition(ConditionType.FINISHED) == ("False", "Running")
    assert story.status.observed_generation == 1
    assert story.status.phase == "Preparation"


def test_decide_undisturbed_runs_phases_in_order(tell: Tell) -> None:
    story, seen = tell(), []
    decision = story.after(0)
    while story.status.outcome is None:
        seen += story.started(decision)
        decision = story.ended(0)
    assert seen == [AttemptKey(1, phase, 1) for phase in Phase]
    assert story.status.outcome is RunOutcome.COMPLETED
    assert story.condition(ConditionType.SUCCEEDED) == ("True", "Completed")
    assert story.condition(ConditionType.FINISHED) == ("True", "Completed")
    assert story.condition(ConditionType.PROGRESSING) == ("False", "Finished")
    assert story.status.phase == "Succeeded"
    assert decision.wake_at is None


def test_decide_starts_with_the_training_half(tell: Tell) -> None:
    story = tell("spec.seed=9")
    (action,) = story.after(0).actions
    assert isinstance(action, StartAttempt)
    assert action.config == story.run.spec.training()


def test_decide_existing_models_are_skipped(tell: Tell) -> None:
    story = tell("spec.sft.from.path=a", "spec.rewardModel.from.path=b")
    story.complete(Phase.PREPARATION)
    assert story.phase.phase is Phase.PPO
    skipped = [phase for phase in story.status.phases if phase.state is PhaseState.SKIPPED]
    assert [(phase.phase, phase.model_path) for phase in skipped] == [
        (Phase.SFT, "a"),
        (Phase.REWARD_MODEL, "b"),
    ]


def test_decide_started_and_not_seen_is_started_again_under_its_number(tell: Tell) -> None:
    story = tell()
    first = story.after(0)
    again = story.after(3, NotStarted())
    assert again.actions == first.actions
    assert again.status == first.status


def test_decide_running_does_nothing(tell: Tell) -> None:
    story = tell()
    before = story.after(0)
    assert story.after(1, Running()).actions == ()
    assert story.status == before.status


def test_decide_result_is_taken_into_the_status(tell: Tell) -> None:
    story = tell()
    story.complete(Phase.PREPARATION)
    result = Result(
        phase=Phase.SFT,
        outcome=Outcome.COMPLETED,
        message="done",
        step=40,
        model_path="iteration-1/sft/attempt-1/model",
        metrics={"validationLoss": 1.5, "broken": float("nan")},
    )
    story.ended(0, result=result)
    sft = story.status.phases[1]
    assert (sft.step, sft.model_path) == (40, "iteration-1/sft/attempt-1/model")
    assert sft.metrics == {"validationLoss": 1.5}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        pytest.param(11, RunOutcome.GATE_FAILED, id="gate"),
        pytest.param(20, RunOutcome.INVALID, id="invalid"),
        pytest.param(21, RunOutcome.OUT_OF_MEMORY, id="memory"),
        pytest.param(30, RunOutcome.DIVERGED, id="diverged"),
    ],
)
def test_decide_verdict_of_a_phase_ends_the_run(tell: Tell, code: int, outcome: RunOutcome) -> None:
    story = tell()
    story.complete(Phase.PREPARATION)
    decision = story.ended(code)
    assert decision.actions == ()
    assert story.status.outcome is outcome
    assert outcome.exit_code == code
    assert story.status.phases[1].state is PhaseState.FAILED
    assert story.status.phase == "Failed"
    assert story.condition(ConditionType.SUCCEEDED) == ("False", outcome.value)
    assert story.condition(ConditionType.FINISHED) == ("True", outcome.value)


def kl_stop(reason: str = "KLLimitExceeded") -> Result:
    return Result(
        phase=Phase.PPO,
        outcome=Outcome.STOPPED,
        message="KL 21.5 nats exceeds the limit of 15",
        reason=reason,
        step=7,
        certified_step=5,
        model_path="iteration-1/ppo/attempt-1/model",
        metrics={"klNats": 21.5},
    )


def test_decide_stop_by_the_guard_says_why_in_status(tell: Tell) -> None:
    story = tell().in_ppo()
    story.ended(10, result=kl_stop())
    stop = story.status.stop
    assert stop is not None
    assert (stop.reason, stop.by) == ("KLLimitExceeded", StoppedBy.TRAINER)
    assert (stop.kl_nats, stop.limit_nats) == (21.5, 15.0)
    assert (stop.step, stop.certified_step) == (7, 5)
    assert story.status.outcome is RunOutcome.STOPPED
    assert story.phase.state is PhaseState.STOPPED
    assert story.phase.model_path == "iteration-1/ppo/attempt-1/model"
    assert story.status.phase == "Stopped"
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == ("False", "KLLimitExceeded")
    assert story.condition(ConditionType.SUCCEEDED) == ("False", "KLLimitExceeded")


def test_decide_stop_by_another_rule_leaves_kl_as_measured(tell: Tell) -> None:
    story = tell("spec.guard.kl.limitNats=30").in_ppo()
    story.ended(10, result=kl_stop(reason="EntropyBelowFloor"))
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == ("True", "WithinLimit")


def test_decide_nonsense_for_a_reason_is_replaced(tell: Tell) -> None:
    story = tell().in_ppo()
    story.ended(10, result=kl_stop(reason="not a reason!"))
    assert story.status.stop is not None
    assert story.status.stop.reason == "Stopped"


@pytest.mark.parametrize(
    ("kl", "found"),
    [
        pytest.param(15.0, ("True", "WithinLimit"), id="at the limit"),
        pytest.param(15.1, ("False", "AboveLimit"), id="above"),
    ],
)
def test_decide_measured_kl_sets_the_condition(
    tell: Tell, kl: float, found: tuple[str, str]
) -> None:
    story = tell().in_ppo()
    story.after(1, Running(AttemptProgress(step=1, metrics={"klNats": kl})))
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == found


NO_PLACE = SpecError(
    field="spec.placement.pool", value="a100", problem="no such pool here", fix="use one of: cpu"
)


def test_decide_unknown_pool_starts_nothing_and_ends_nothing(
    build_run: BuildRun, noon: datetime
) -> None:
    decision = decide(build_run(), Observed({}, refused=NO_PLACE), noon)
    assert decision.actions == ()
    accepted = decision.status.condition(ConditionType.ACCEPTED)
    progressing = decision.status.condition(ConditionType.PROGRESSING)
    assert accepted is not None
    assert progressing is not None
    assert (accepted.status, accepted.reason) == ("False", "CannotBePlaced")
    assert progressing.reason == "NotAccepted"
    assert decision.status.start_time is None
    assert decision.status.outcome is None


def test_decide_refused_run_is_looked_at_again_and_starts_once_it_has_a_pool(
    build_run: BuildRun, noon: datetime
) -> None:
    refused = decide(build_run(), Observed({}, refused=NO_PLACE), noon)
    assert refused.wake_at == noon + REFUSED_INTERVAL
    again = decide(
        build_run(status=refused.status), Observed({}, refused=NO_PLACE), refused.wake_at
    )
    assert again.status == refused.status
    assert again.wake_at == noon + 2 * REFUSED_INTERVAL
    (action,) = decide(build_run(status=again.status), Observed({}), again.wake_at).actions
    assert isinstance(action, StartAttempt)


def test_decide_refused_run_that_pauses_is_left_alone(build_run: BuildRun, noon: datetime) -> None:
    seen = Observed({}, refused=NO_PLACE, suspended=True)
    assert decide(build_run(), seen, noon).wake_at is None


def test_decide_refused_run_still_meets_an_earlier_deadline(tell: Tell) -> None:
    story = tell("spec.runPolicy.activeDeadlineSeconds=90")
    story.after(0)
    story.ended(0)
    began = story.now - timedelta(seconds=5)
    seen = Observed({}, refused=NO_PLACE)
    decision = decide(story.run, seen, story.now)
    assert decision.wake_at == story.now + REFUSED_INTERVAL
    story.run = story.run.model_copy(update={"status": decision.status})
    decision = decide(story.run, seen, decision.wake_at)
    assert decision.wake_at == began + timedelta(seconds=90)


def test_decide_pool_that_vanished_gives_an_unstarted_attempt_up(
    build_run: BuildRun, see: See, noon: datetime
) -> None:
    status = decide(build_run(), see(), noon).status
    run = build_run(status=status)
    assert decide(run, Observed({}, refused=NO_PLACE), noon).actions == ()
    running = {AttemptKey(1, Phase.PREPARATION, 1): Running()}
    assert decide(run, Observed(running, refused=NO_PLACE), noon).status.live is not None


def test_decide_ended_run_absorbs_everything(tell: Tell) -> None:
    story = tell()
    story.after(0)
    before = story.ended(20)
    for execution in (None, Running(), Ended(0), Ended(1)):
        for suspended in (False, True):
            decision = story.after(1000, execution, suspended=suspended)
            assert decision == Decision(before.status)


def test_decide_condition_keeps_its_transition_time_until_it_changes(tell: Tell) -> None:
    story = tell()
    first = story.after(0).status.condition(ConditionType.SUCCEEDED)
    story.complete(Phase.PREPARATION)
    later = story.status.condition(ConditionType.SUCCEEDED)
    assert first is not None
    assert later is not None
    assert later.last_transition_time == first.last_transition_time
    story.ended(30)
    last = story.status.condition(ConditionType.SUCCEEDED)
    assert last is not None
    assert last.last_transition_time == story.now
