"""`decide` against a world that crashes, hangs, is disrupted, pauses and forgets at random."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_operator.api import AttemptKey, PhaseState, RLHFRun, RunOutcome, RunStatus
from rlhf_operator.decide import (
    AttemptProgress,
    Decision,
    Ended,
    Execution,
    NotStarted,
    Observed,
    Running,
    StartAttempt,
    StopAttempt,
    decide,
)
from rlhf_trainer.contract import Phase

BuildRun = Callable[..., RLHFRun]
See = Callable[..., Observed]

LIMIT = 2
EXIT_CODES = (0, 0, 0, 1, 137, 143, 10, 11, 20, 21, 30, None)
WORSE_CODES = (0, 1, 137, 143, None)
"""Codes without a phase's own verdict: such runs live longer."""


@dataclass(frozen=True)
class Step:
    """What happens to the world between two passes."""

    seconds: int
    exit_code: int | None
    ends: bool
    disrupted: bool
    checkpoint: bool
    heartbeat: bool
    suspended: bool
    fault: str
    """What is lost of the pass that follows: nothing, its actions, or everything."""


def steps(exit_codes: tuple[int | None, ...]) -> st.SearchStrategy[list[Step]]:
    step = st.builds(
        Step,
        seconds=st.sampled_from([0, 1, 7, 31, 400, 2000]),
        exit_code=st.sampled_from(exit_codes),
        ends=st.booleans(),
        disrupted=st.booleans(),
        checkpoint=st.booleans(),
        heartbeat=st.booleans(),
        suspended=st.sampled_from([False, False, False, True]),
        fault=st.sampled_from(["nothing", "nothing", "actions", "everything"]),
    )
    return st.lists(step, max_size=60)


@dataclass
class World:
    """A backend whose attempts live in a dictionary."""

    run: RLHFRun
    see: See
    now: datetime
    executions: dict[AttemptKey, Execution] = field(default_factory=dict)
    started: list[AttemptKey] = field(default_factory=list)
    checkpoint: int = 0
    heartbeat: int = 0
    suspended: bool = False

    @property
    def alive(self) -> list[AttemptKey]:
        return [key for key, seen in self.executions.items() if isinstance(seen, Running)]

    def decide(self) -> Decision:
        return decide(self.run, self.see(dict(self.executions), suspended=self.suspended), self.now)

    def store(self, status: RunStatus) -> None:
        # Through JSON, as a store would: what cannot be read back must not be decided.
        text = status.model_dump_json(by_alias=True)
        self.run = self.run.model_copy(update={"status": RunStatus.model_validate_json(text)})

    def act(self, decision: Decision) -> None:
        for action in decision.actions:
            match action:
                case StartAttempt(key=key):
                    if key not in self.executions:
                        self.executions[key] = Running()
                        self.started.append(key)
                case StopAttempt(key=key, grace_seconds=grace):
                    if grace == 0:
                        self.executions[key] = Ended(137)

    def happen(self, step: Step) -> None:
        self.now += timedelta(seconds=step.seconds)
        self.suspended = step.suspended
        for key in self.alive:
            self.checkpoint += step.checkpoint
            self.heartbeat += step.heartbeat
            progress = AttemptProgress(
                step=self.checkpoint,
                checkpoint_step=self.checkpoint if step.checkpoint else None,
                heartbeat=self.heartbeat,
            )
            self.executions[key] = (
                Ended(step.exit_code, disrupted=step.disrupted, progress=progress)
                if step.ends
                else Running(progress)
            )

    def live(self, step: Step) -> Decision:
        """Let one step happen, and a pass that may be interrupted by a crash."""
        self.happen(step)
        decision = self.decide()
        if step.fault != "everything":
            self.store(decision.status)
        if step.fault == "nothing":
            self.act(decision)
        return decision


def check_order(status: RunStatus) -> None:
    """A phase is begun only when all before it are done."""
    done = True
    for phase in status.phases:
        assert done or phase.attempts == 0
        done = done and phase.state.is_done


def check_terminal(world: World) -> None:
    before = world.run.status
    for later in (timedelta(0), timedelta(days=30)):
        decision = decide(world.run, world.see(dict(world.executions)), world.now + later)
        assert decision == Decision(before)


@settings(max_examples=150, deadline=None)
@given(script=steps(EXIT_CODES) | steps(WORSE_CODES))
def test_decide_random_world_keeps_its_promises(
    script: list[Step], build_run: BuildRun, see: See, noon: datetime
) -> None:
    run = build_run(f"spec.runPolicy.backoffLimit={LIMIT}", "spec.runPolicy.hangTimeoutSeconds=600")
    world = World(run, see, noon)
    for step in script:
        world.live(step)
        status = world.run.status
        check_order(status)
        assert len(world.alive) <= 1
        assert len(set(world.started)) == len(world.started)
        assert all(phase.failures <= LIMIT + 1 for phase in status.phases)
        assert sum(phase.running is not None for phase in status.phases) <= 1
        if status.outcome is not None:
            assert not world.alive
            check_terminal(world)


@settings(max_examples=100, deadline=None)
@given(script=steps(EXIT_CODES))
def test_decide_same_input_same_decision_and_applied_status_is_a_fixed_point(
    script: list[Step], build_run: BuildRun, see: See, noon: datetime
) -> None:
    world = World(build_run(f"spec.runPolicy.backoffLimit={LIMIT}"), see, noon)
    for step in script:
        world.happen(step)
        decision = world.decide()
        assert world.decide() == decision
        world.store(decision.status)
        again = world.decide()
        assert again.status == decision.status
        assert again.actions == decision.actions
        world.act(decision)


@settings(max_examples=60, deadline=None)
@given(script=steps((0, 1, 143)), codes=st.lists(st.sampled_from((1, 137, 143)), max_size=30))
def test_decide_quiet_world_ends(
    script: list[Step],
    codes: list[int],
    build_run: BuildRun,
    see: See,
    noon: datetime,
) -> None:
    """However a run was treated: once attempts complete, the run does."""
    world = World(build_run("spec.runPolicy.backoffLimit=1000"), see, noon)
    for step in script:
        world.live(step)
    world.suspended = False
    for code in (*codes, *[0] * 12):
        world.now += timedelta(seconds=400)
        world.executions |= {key: Ended(code) for key in world.alive}
        decision = world.decide()
        world.store(decision.status)
        world.act(decision)
    assert world.run.status.outcome is RunOutcome.COMPLETED
    assert all(phase.state is PhaseState.SUCCEEDED for phase in world.run.status.phases)


keys = st.builds(
    AttemptKey,
    iteration=st.integers(1, 3),
    phase=st.sampled_from(list(Phase)),
    attempt=st.integers(1, 4),
)
progress = st.builds(
    AttemptProgress,
    step=st.none() | st.integers(0, 10),
    checkpoint_step=st.none() | st.integers(0, 10),
    metrics=st.dictionaries(st.sampled_from(["klNats", "loss"]), st.floats(), max_size=2),
    heartbeat=st.none() | st.integers(0, 3),
)
seen = (
    st.builds(NotStarted)
    | st.builds(Running, progress)
    | st.builds(Ended, st.none() | st.integers(0, 255), disrupted=st.booleans(), progress=progress)
)


@settings(max_examples=150, deadline=None)
@given(sights=st.lists(st.dictionaries(keys, seen, max_size=4), max_size=12))
def test_decide_any_sight_is_answered(
    sights: list[dict[AttemptKey, Execution]], build_run: BuildRun, see: See, noon: datetime
) -> None:
    run = build_run("spec.runPolicy.activeDeadlineSeconds=3000")
    for index, sight in enumerate(sights):
        now = noon + timedelta(seconds=600 * index)
        decision = decide(run, see(sight, suspended=index % 5 == 1), now)
        status = RunStatus.model_validate_json(decision.status.model_dump_json(by_alias=True))
        assert status == decision.status
        run = run.model_copy(update={"status": status})
        check_order(status)
        assert [phase.phase for phase in status.phases] == list(Phase)
        assert decision.wake_at is None or decision.wake_at > now
