"""One pass after the other over a run whose world is written down by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import (
    AttemptKey,
    ConditionStatus,
    ConditionType,
    PhaseState,
    PhaseStatus,
    RLHFRun,
    RunOutcome,
    RunStatus,
    StoppedBy,
)
from rlhf_operator.decide import (
    AttemptProgress,
    Decision,
    Ended,
    Execution,
    NotStarted,
    Observed,
    Pool,
    Running,
    StartAttempt,
    StopAttempt,
    decide,
)
from rlhf_trainer.contract import Outcome, Phase, Result

BuildRun = Callable[..., RLHFRun]
See = Callable[..., Observed]


@dataclass
class Story:
    """A run, told pass by pass."""

    run: RLHFRun
    see: See
    now: datetime
    decision: Decision = Decision(RunStatus())

    def after(
        self, seconds: float, execution: Execution | None = None, *, suspended: bool = False
    ) -> Decision:
        """Let time pass, look at the live attempt as `execution`, and decide."""
        self.now += timedelta(seconds=seconds)
        live = self.run.status.live
        key = live.live_key if live else None
        executions = {key: execution} if key and execution else {}
        self.decision = decide(self.run, self.see(executions, suspended=suspended), self.now)
        self.run = self.run.model_copy(update={"status": self.decision.status})
        return self.decision

    def ended(self, code: int | None, **seen: object) -> Decision:
        return self.after(5, Ended(code, **seen))

    def complete(self, *phases: Phase) -> None:
        """Bring the run past `phases`."""
        for phase in phases:
            if self.run.status.live is None:
                self.after(0)
            assert self.phase.phase is phase
            self.ended(0)

    @property
    def status(self) -> RunStatus:
        return self.decision.status

    @property
    def phase(self) -> PhaseStatus:
        due = self.status.due
        assert due is not None
        return due

    def condition(self, type_: ConditionType) -> tuple[ConditionStatus, str]:
        condition = self.status.condition(type_)
        assert condition is not None
        return condition.status, condition.reason


@pytest.fixture
def tell(build_run: BuildRun, see: See, noon: datetime) -> Callable[..., Story]:
    return lambda *overrides: Story(build_run(*overrides), see, noon)


def started(decision: Decision) -> list[AttemptKey]:
    return [action.key for action in decision.actions if isinstance(action, StartAttempt)]


def stopped(decision: Decision) -> list[tuple[str, float]]:
    return [
        (action.reason, action.grace_seconds)
        for action in decision.actions
        if isinstance(action, StopAttempt)
    ]


def test_decide_first_visit_sets_every_condition_and_starts_preparation(tell) -> None:
    story = tell()
    decision = story.after(0)
    assert started(decision) == [AttemptKey(1, Phase.PREPARATION, 1)]
    assert [condition.type for condition in story.status.conditions] == list(ConditionType)
    assert story.condition(ConditionType.ACCEPTED) == ("True", "Valid")
    assert story.condition(ConditionType.PROGRESSING) == ("True", "AttemptRunning")
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == ("Unknown", "NotMeasured")
    assert story.condition(ConditionType.SUCCEEDED) == ("Unknown", "Running")
    assert story.condition(ConditionType.FINISHED) == ("False", "Running")
    assert story.status.observed_generation == 1
    assert story.status.phase == "Preparation"


def test_decide_undisturbed_runs_phases_in_order(tell) -> None:
    story, seen = tell(), []
    decision = story.after(0)
    while story.status.outcome is None:
        seen += started(decision)
        decision = story.ended(0)
    assert seen == [AttemptKey(1, phase, 1) for phase in Phase]
    assert story.status.outcome is RunOutcome.COMPLETED
    assert story.condition(ConditionType.SUCCEEDED) == ("True", "Completed")
    assert story.condition(ConditionType.FINISHED) == ("True", "Completed")
    assert story.condition(ConditionType.PROGRESSING) == ("False", "Finished")
    assert story.status.phase == "Succeeded"
    assert decision.wake_at is None


def test_decide_starts_with_the_training_half(tell) -> None:
    story = tell("spec.seed=9")
    (action,) = story.after(0).actions
    assert isinstance(action, StartAttempt)
    assert action.config == story.run.spec.training()


def test_decide_existing_models_are_skipped(tell) -> None:
    story = tell("spec.sft.from.path=a", "spec.rewardModel.from.path=b")
    story.complete(Phase.PREPARATION)
    assert story.phase.phase is Phase.PPO
    skipped = [phase for phase in story.status.phases if phase.state is PhaseState.SKIPPED]
    assert [(phase.phase, phase.model_path) for phase in skipped] == [
        (Phase.SFT, "a"),
        (Phase.REWARD_MODEL, "b"),
    ]


def test_decide_started_and_not_seen_is_started_again_under_its_number(tell) -> None:
    story = tell()
    first = story.after(0)
    again = story.after(3, NotStarted())
    assert again.actions == first.actions
    assert again.status == first.status


def test_decide_running_does_nothing(tell) -> None:
    story = tell()
    before = story.after(0)
    assert story.after(1, Running()).actions == ()
    assert story.status == before.status


def test_decide_result_is_taken_into_the_status(tell) -> None:
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
def test_decide_verdict_of_a_phase_ends_the_run(tell, code: int, outcome: RunOutcome) -> None:
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


def in_ppo(tell, *overrides: str) -> Story:
    story = tell(*overrides)
    story.complete(Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)
    return story


def test_decide_stop_by_the_guard_says_why_in_status(tell) -> None:
    story = in_ppo(tell)
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


def test_decide_stop_by_another_rule_leaves_kl_as_measured(tell) -> None:
    story = in_ppo(tell, "spec.guard.kl.limitNats=30")
    story.ended(10, result=kl_stop(reason="EntropyBelowFloor"))
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == ("True", "WithinLimit")


def test_decide_nonsense_for_a_reason_is_replaced(tell) -> None:
    story = in_ppo(tell)
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
def test_decide_measured_kl_sets_the_condition(tell, kl: float, found: tuple[str, str]) -> None:
    story = in_ppo(tell)
    story.after(1, Running(AttemptProgress(step=1, metrics={"klNats": kl})))
    assert story.condition(ConditionType.KL_WITHIN_LIMIT) == found


def test_decide_crash_backs_off_and_tries_again(tell) -> None:
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
    assert started(story.after(1)) == [AttemptKey(1, Phase.PREPARATION, 2)]


@pytest.mark.parametrize(
    ("limit", "attempts"), [pytest.param(0, 1, id="none"), pytest.param(3, 4, id="three")]
)
def test_decide_crashes_without_progress_exhaust_retries(tell, limit: int, attempts: int) -> None:
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
    assert f"raise spec.runPolicy.backoffLimit={limit}" in story.status.stop.message


def test_decide_new_checkpoints_begin_the_count_anew(tell) -> None:
    story = in_ppo(tell, "spec.runPolicy.backoffLimit=1")
    for checkpoint in (None, 10, None, 20):
        story.ended(1, progress=AttemptProgress(checkpoint_step=checkpoint))
        assert story.status.outcome is None
        story.after(400)
    assert story.phase.failures == 0
    story.ended(1, progress=AttemptProgress(checkpoint_step=20))
    assert story.phase.failures == 1


def test_decide_checkpoint_seen_while_running_counts(tell) -> None:
    story = in_ppo(tell, "spec.runPolicy.backoffLimit=0")
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
def test_decide_interrupted_attempt_is_followed_at_once_and_uncounted(
    tell, code: int | None, disrupted: bool
) -> None:
    story = tell("spec.runPolicy.backoffLimit=0")
    story.after(0)
    for number in range(2, 6):
        decision = story.ended(code, disrupted=disrupted)
        assert started(decision) == [AttemptKey(1, Phase.PREPARATION, number)]
    assert story.phase.failures == 0


def test_decide_suspended_stops_what_is_alive_and_starts_nothing(tell) -> None:
    story = tell()
    story.after(0)
    assert stopped(story.after(5, Running(), suspended=True)) == [("Suspended", 300)]
    assert stopped(story.after(100, Running(), suspended=True)) == [("Suspended", 200)]
    assert story.condition(ConditionType.PROGRESSING) == ("True", "Stopping")
    decision = story.after(1, Ended(143), suspended=True)
    assert decision.actions == ()
    assert story.status.phase == "Suspended"
    assert story.condition(ConditionType.PROGRESSING) == ("False", "Suspended")
    assert started(story.after(1000)) == [AttemptKey(1, Phase.PREPARATION, 2)]
    assert story.phase.failures == 0


def test_decide_suspended_before_the_start_gives_the_attempt_up(tell) -> None:
    story = tell()
    story.after(0)
    assert story.after(1, NotStarted(), suspended=True).actions == ()
    assert story.phase.state is PhaseState.PENDING
    assert started(story.after(1)) == [AttemptKey(1, Phase.PREPARATION, 2)]


def test_decide_suspended_attempt_that_completes_is_complete(tell) -> None:
    story = tell()
    story.after(0)
    story.after(1, Running(), suspended=True)
    story.after(1, Ended(0), suspended=True)
    assert story.status.phases[0].state is PhaseState.SUCCEEDED
    assert story.phase.attempts == 0


def test_decide_grace_period_over_leaves_none(tell) -> None:
    story = tell("spec.runPolicy.terminationGracePeriodSeconds=20")
    story.after(0)
    decision = story.after(0, Running(), suspended=True)
    assert decision.wake_at == story.now + timedelta(seconds=20)
    assert stopped(story.after(20, Running(), suspended=True)) == [("Suspended", 0)]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        pytest.param("activeDeadlineSeconds", "DeadlineExceeded", id="run"),
        pytest.param("phaseDeadlineSeconds", "PhaseDeadlineExceeded", id="phase"),
    ],
)
def test_decide_deadline_stops_first_and_ends_then(tell, field: str, reason: str) -> None:
    story = tell(f"spec.runPolicy.{field}=100")
    decision = story.after(0)
    assert decision.wake_at == story.now + timedelta(seconds=100)
    assert story.after(99, Running()).actions == ()
    assert stopped(story.after(1, Running())) == [(reason, 300)]
    assert story.status.stop is not None
    assert story.status.stop.by is StoppedBy.OPERATOR
    assert story.status.outcome is None
    story.ended(143)
    assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
    assert story.status.outcome.exit_code == 41
    assert story.phase.state is PhaseState.STOPPED


def test_decide_recorded_stop_stands_whatever_the_attempt_says(tell) -> None:
    for code in (0, 10, 20, 143, 1):
        story = tell("spec.runPolicy.activeDeadlineSeconds=100")
        story.after(0)
        story.after(100, Running())
        story.ended(code)
        assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
        done = story.status.phases[0].state is PhaseState.SUCCEEDED
        assert done == (code == 0)


def test_decide_deadline_between_attempts_ends_at_once(tell) -> None:
    story = tell("spec.runPolicy.activeDeadlineSeconds=12")
    story.after(0)
    story.ended(1)
    story.after(7)
    assert story.status.outcome is RunOutcome.DEADLINE_EXCEEDED
    assert story.phase.state is PhaseState.STOPPED
    assert story.phase.next_attempt_time is None


def test_decide_deadline_leaves_pauses_out(tell) -> None:
    story = tell("spec.runPolicy.activeDeadlineSeconds=100")
    story.after(0)
    story.after(50, Ended(143), suspended=True)
    story.after(1000, suspended=True)
    decision = story.after(1000)
    assert story.status.stop is None
    assert decision.wake_at == story.now + timedelta(seconds=50)
    story.after(50, Running())
    assert story.status.stop is not None


def test_decide_still_heartbeat_is_a_counted_failure(tell) -> None:
    story = tell("spec.runPolicy.hangTimeoutSeconds=60")
    story.after(0)
    still = Running(AttemptProgress(heartbeat=7))
    decision = story.after(1, still)
    assert decision.wake_at == story.now + timedelta(seconds=60)
    assert story.after(59, still).actions == ()
    assert stopped(story.after(1, still)) == [("Hung", 300)]
    story.ended(143)
    assert story.phase.failures == 1
    assert story.phase.state is PhaseState.BACKING_OFF


def test_decide_moving_or_unreadable_heartbeat_is_no_hang(tell) -> None:
    story = tell("spec.runPolicy.hangTimeoutSeconds=60")
    story.after(0)
    for beat in (1, 2, None, 3, None):
        assert story.after(59, Running(AttemptProgress(heartbeat=beat))).actions == ()


def test_decide_progress_is_written_every_half_minute_at_most(tell) -> None:
    story = in_ppo(tell)
    steps = []
    for step in range(1, 13):
        story.after(10, Running(AttemptProgress(step=step, certified_step=step - 1)))
        steps.append(story.phase.step)
    assert steps == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10, 10, 10]
    assert story.phase.certified_step == 9


@pytest.mark.parametrize(
    "pools", [pytest.param((), id="none"), pytest.param((Pool("a100"),), id="another")]
)
def test_decide_unknown_pool_starts_nothing_and_ends_nothing(
    build_run: BuildRun, noon: datetime, pools: tuple[Pool, ...]
) -> None:
    run = build_run()
    decision = decide(run, Observed({}, pools), noon)
    assert decision.actions == ()
    accepted = decision.status.condition(ConditionType.ACCEPTED)
    progressing = decision.status.condition(ConditionType.PROGRESSING)
    assert accepted is not None
    assert progressing is not None
    assert (accepted.status, accepted.reason) == ("False", "CannotBePlaced")
    assert progressing.reason == "NotAccepted"
    assert decision.status.start_time is None
    assert decision.status.outcome is None


def test_decide_pool_that_vanished_gives_an_unstarted_attempt_up(
    build_run: BuildRun, see: See, noon: datetime
) -> None:
    status = decide(build_run(), see(), noon).status
    run = build_run(status=status)
    assert decide(run, Observed({}, ()), noon).actions == ()
    running = {AttemptKey(1, Phase.PREPARATION, 1): Running()}
    assert decide(run, Observed(running, ()), noon).status.live is not None


def test_decide_ended_run_absorbs_everything(tell) -> None:
    story = tell()
    story.after(0)
    before = story.ended(20)
    for execution in (None, Running(), Ended(0), Ended(1)):
        for suspended in (False, True):
            decision = story.after(1000, execution, suspended=suspended)
            assert decision == Decision(before.status)


def test_decide_condition_keeps_its_transition_time_until_it_changes(tell) -> None:
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
