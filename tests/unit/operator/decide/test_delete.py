"""Runs that are deleted, and what is cleared away of those that are not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import AttemptKey, RLHFRun
from rlhf_operator.decide import (
    Decision,
    Ended,
    Execution,
    Hold,
    LetGo,
    Observed,
    RemoveJob,
    RemoveRun,
    Running,
    StartAttempt,
    StopAttempt,
    decide,
)
from rlhf_operator.metrics import OperatorMetrics
from rlhf_trainer.contract import Phase

Tell = Callable[..., object]
BuildRun = Callable[..., RLHFRun]

FIRST = AttemptKey(1, Phase.PREPARATION, 1)


def seen(execution: Execution | None = None, **facts: object) -> Observed:
    observed = Observed({FIRST: execution} if execution else {}, held=True)
    return replace(observed, **facts)


def stored(run: RLHFRun, decision: Decision) -> RLHFRun:
    return run.model_copy(update={"status": decision.status})


@pytest.fixture
def started(build_run: BuildRun, noon: datetime) -> RLHFRun:
    run = build_run()
    return stored(run, decide(run, seen(), noon))


def test_new_run_is_held_before_anything_starts(build_run: BuildRun, noon: datetime) -> None:
    actions = decide(build_run(), seen(held=False), noon).actions
    assert [type(action) for action in actions] == [Hold, StartAttempt]


def test_deleted_run_stops_what_is_alive_and_is_let_go_afterwards(
    started: RLHFRun, noon: datetime
) -> None:
    decision = decide(started, seen(Running(), deleting=True), noon)
    assert [type(action) for action in decision.actions] == [StopAttempt]
    assert decision.status.live is not None
    run = stored(started, decision)
    assert decide(run, seen(Running(), deleting=True), noon).status == run.status
    assert decide(run, seen(Ended(143), deleting=True), noon).actions == (LetGo(),)


@pytest.mark.parametrize("execution", [None, Ended(0)], ids=["not-started", "ended"])
def test_deleted_run_of_which_nothing_is_alive_is_let_go(
    started: RLHFRun, noon: datetime, execution: Execution | None
) -> None:
    assert decide(started, seen(execution, deleting=True), noon).actions == (LetGo(),)


def test_deleted_run_is_let_go_at_last_even_if_something_seems_alive(
    started: RLHFRun, noon: datetime
) -> None:
    first = decide(started, seen(Running(), deleting=True), noon)
    assert first.wake_at is not None
    run = stored(started, first)
    assert LetGo() in decide(run, seen(Running(), deleting=True), first.wake_at).actions


@pytest.fixture
def on_gpus(build_run: BuildRun, noon: datetime) -> RLHFRun:
    """A run in its SFT, on 8 GPUs."""
    run = build_run("spec.placement.gpusPerNode=8")
    run = stored(run, decide(run, seen(), noon))
    return stored(run, decide(run, seen(Ended(0)), noon))


SFT = AttemptKey(1, Phase.SFT, 1)


def test_deleted_run_counts_what_its_attempt_has_cost_once(
    on_gpus: RLHFRun, noon: datetime
) -> None:
    going = Observed({SFT: Running()}, deleting=True)
    run = stored(on_gpus, decide(on_gpus, going, noon + timedelta(seconds=90)))
    assert run.status.phases[1].gpu_seconds == 0
    gone = Observed({SFT: Ended(143)}, deleting=True)
    later = noon + timedelta(seconds=100)
    decision = decide(run, gone, later)
    assert decision.actions == (LetGo(),)
    assert decision.status.phases[1].gpu_seconds == 8 * 100
    # The write may be the last thing that succeeds in a pass.
    again = decide(stored(run, decision), gone, later + timedelta(seconds=50))
    assert again.actions == (LetGo(),)
    assert again.status == decision.status
    metrics = OperatorMetrics(tuple, lambda: 0, lambda: True)
    metrics.count(run.status, decision.status)
    assert b'rlhf_operator_gpu_seconds_total{phase_name="SFT"} 800.0' in metrics.page()


def test_deleted_run_counts_the_cost_of_what_seems_alive_as_it_is_let_go(
    on_gpus: RLHFRun, noon: datetime
) -> None:
    going = Observed({SFT: Running()}, deleting=True)
    first = decide(on_gpus, going, noon)
    assert first.wake_at is not None
    decision = decide(stored(on_gpus, first), going, first.wake_at)
    assert [type(action) for action in decision.actions] == [StopAttempt, LetGo]
    seconds = int((first.wake_at - noon).total_seconds())
    assert decision.status.phases[1].gpu_seconds == 8 * seconds


def test_deleted_run_whose_attempt_never_started_has_cost_nothing(
    on_gpus: RLHFRun, noon: datetime
) -> None:
    decision = decide(on_gpus, Observed({}, deleting=True), noon + timedelta(seconds=90))
    assert decision == Decision(on_gpus.status, (LetGo(),))


def test_deleted_run_that_is_not_held_needs_nothing(started: RLHFRun, noon: datetime) -> None:
    assert decide(started, seen(Running(), deleting=True, held=False), noon).actions == ()


def test_job_of_a_complete_phase_is_removed_once_the_next_one_runs(
    started: RLHFRun, noon: datetime
) -> None:
    jobs = frozenset({FIRST})
    decision = decide(started, seen(Ended(0), jobs=jobs), noon)
    assert [type(action) for action in decision.actions] == [StartAttempt]
    run = stored(started, decision)
    second = AttemptKey(1, Phase.SFT, 1)
    running = Observed({second: Running()}, jobs=frozenset({FIRST, second}))
    assert decide(run, running, noon).actions == (RemoveJob(FIRST),)


@pytest.mark.parametrize(
    ("keep", "removed"),
    [("All", []), ("Failed", [1, 2]), ("None", [1, 2, 3])],
)
def test_jobs_of_a_run_that_has_ended_stay_by_policy(
    tell: Tell, keep: str, removed: list[int]
) -> None:
    story = tell(f"spec.runPolicy.keepJobs={keep}")
    story.complete(Phase.PREPARATION, Phase.SFT)
    story.after(0)
    story.ended(20)
    phases = (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)
    jobs = frozenset(AttemptKey(1, phase, 1) for phase in phases)
    actions = decide(story.run, Observed({}, jobs=jobs), story.now).actions
    assert {action.key for action in actions} == {
        AttemptKey(1, phases[number - 1], 1) for number in removed
    }


def test_run_is_deleted_when_its_time_is_over(tell: Tell) -> None:
    story = tell("spec.runPolicy.ttlSecondsAfterFinished=60")
    story.after(0)
    decision = story.ended(20)
    due = story.now + timedelta(seconds=60)
    assert decision.wake_at == due
    assert decide(story.run, seen(), due - timedelta(seconds=1)).actions == ()
    assert decide(story.run, seen(), due).actions == (RemoveRun(),)


@pytest.mark.parametrize("keep", ["All", "Failed", "None"])
def test_job_of_a_lost_node_is_removed_once_its_successor_runs(
    build_run: BuildRun, noon: datetime, keep: str
) -> None:
    run = build_run(f"spec.runPolicy.keepJobs={keep}")
    run = stored(run, decide(run, seen(), noon))
    lost = seen(Ended(None, disrupted=True), jobs=frozenset({FIRST}), unfinished=frozenset({FIRST}))
    decision = decide(run, lost, noon)
    second = FIRST._replace(attempt=2)
    assert decision.actions[:2] == (StartAttempt(second, run.spec.training()), RemoveJob(FIRST))
    assert decision.actions.count(RemoveJob(FIRST)) == 1


@pytest.mark.parametrize("keep", ["All", "Failed", "None"])
def test_job_that_lives_although_its_time_is_over_is_removed(tell: Tell, keep: str) -> None:
    story = tell(f"spec.runPolicy.keepJobs={keep}")
    story.after(0)
    story.ended(0)
    live = story.run.status.live.key
    both = frozenset({FIRST, live})
    observed = replace(seen(jobs=both, alive=both), executions={live: Running()})
    actions = decide(story.run, observed, story.now).actions
    assert RemoveJob(FIRST) in actions
    assert RemoveJob(live) not in actions


def test_job_that_lives_after_the_end_of_its_run_is_removed(tell: Tell) -> None:
    story = tell("spec.runPolicy.keepJobs=All")
    story.after(0)
    story.ended(20)
    observed = seen(jobs=frozenset({FIRST}), alive=frozenset({FIRST}))
    assert decide(story.run, observed, story.now).actions == (RemoveJob(FIRST),)
