"""Which phases a run has, in which order, and how one of them begins."""

from datetime import datetime

from rlhf_operator.api import (
    AttemptKey,
    AttemptStatus,
    PhaseSize,
    PhaseState,
    PhaseStatus,
    RLHFRun,
    RLHFRunSpec,
    RunStatus,
    placed,
)
from rlhf_trainer.contract import Phase

FIRST_ITERATION = 1


def visited(run: RLHFRun) -> RunStatus:
    """Return the run's status with every phase of its plan, each as far as it has come."""
    known = {phase.key: phase for phase in run.status.phases}
    phases = tuple(known.get(phase.key, phase) for phase in _plan(run.spec))
    return run.status.evolve(phases=phases, observed_generation=run.metadata.generation)


def begun(status: RunStatus, phase: PhaseStatus, run: RLHFRun, now: datetime) -> RunStatus:
    """Return the status with the next attempt at `phase` decided upon.

    The size is that of the phase's first attempt: checkpoints cannot be resumed with another one.
    """
    attempt = AttemptStatus(
        number=phase.attempts + 1, start_time=now, checkpoint_step_before=phase.checkpoint_step
    )
    changed = phase.evolve(
        state=PhaseState.RUNNING,
        attempts=attempt.number,
        running=attempt,
        start_time=phase.start_time or now,
        active_since=phase.active_since or now,
        next_attempt_time=None,
        size=phase.size or _size(run.spec, phase.phase),
        job=_job_name(run, phase, attempt),
    )
    return status.with_phase(changed).evolve(
        start_time=status.start_time or now, active_since=status.active_since or now
    )


def _size(spec: RLHFRunSpec, phase: Phase) -> PhaseSize:
    place = placed(spec.placement, phase)
    return PhaseSize(
        nodes=place.nodes, gpus_per_node=place.gpus_per_node, processes_per_node=place.processes
    )


def _job_name(run: RLHFRun, phase: PhaseStatus, attempt: AttemptStatus) -> str | None:
    """Return the name of an attempt's job; outside of a cluster there are no jobs."""
    if not run.metadata.namespace:
        return None
    key = AttemptKey(phase.iteration, phase.phase, attempt.number)
    return key.job_name(run.metadata.name)


def _plan(spec: RLHFRunSpec) -> tuple[PhaseStatus, ...]:
    """Return all phases in order; one whose model exists already is skipped."""
    replaced = {Phase.SFT: spec.sft.from_, Phase.REWARD_MODEL: spec.reward_model.from_}
    phases = []
    for phase in Phase:
        status = PhaseStatus(iteration=FIRST_ITERATION, phase=phase)
        model = replaced.get(phase)
        if model is not None:
            status = status.evolve(state=PhaseState.SKIPPED, model_path=model.path)
        phases.append(status)
    return tuple(phases)
