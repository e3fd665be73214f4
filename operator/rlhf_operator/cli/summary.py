"""How a run is summed up: a table of its phases, the outcome in a sentence, and why."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from rlhf_operator.api import AttemptKey, PhaseState, PhaseStatus, RLHFRun, RunOutcome, StoppedBy
from rlhf_operator.cli.pace import in_words
from rlhf_operator.errors import RUN_AGAIN
from rlhf_trainer.contract import Phase, Workspace

HEADLINE_COUNT = 5
"""Numbers shown per phase."""

FIRST = (
    "winRate",
    "winRateLow",
    "winRateHigh",
    "fleissKappa",
    "klNats",
    "klLimitNats",
    "rewardScore",
)
"""Numbers that go before the others that a phase reports."""

_ENDS = {
    RunOutcome.STOPPED: "was stopped by the guard",
    RunOutcome.GATE_FAILED: "ended: a gate was not passed",
    RunOutcome.INVALID: "ended: the manifest or its data is invalid",
    RunOutcome.OUT_OF_MEMORY: "ended: out of memory",
    RunOutcome.DIVERGED: "ended: training diverged",
    RunOutcome.RETRIES_EXHAUSTED: "gave up: a phase failed too often",
    RunOutcome.DEADLINE_EXCEEDED: "ended: out of time",
}


def summary_table(run: RLHFRun) -> Table:
    """Return a table with a row per phase."""
    table = Table(title=run.metadata.name, title_justify="left")
    table.add_column("Phase", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Attempts", justify="right")
    table.add_column("Headline numbers")
    for phase in run.status.phases:
        attempts = str(phase.attempts) if phase.attempts else ""
        table.add_row(
            phase.phase.value,
            phase.state.value,
            _time(phase),
            attempts,
            escape(headline(phase)),
        )
    return table


def headline(phase: PhaseStatus) -> str:
    """Return the headline numbers of a phase, or what took its place."""
    if phase.state is PhaseState.SKIPPED:
        return f"from {phase.model_path}"
    names = [name for name in FIRST if name in phase.metrics]
    names += [name for name in phase.metrics if name not in FIRST]
    return ", ".join(f"{name} {phase.metrics[name]:.4g}" for name in names[:HEADLINE_COUNT])


def conclusion(run: RLHFRun, workspace: Workspace) -> Iterator[str]:
    """Yield the outcome in one sentence, and then what it is worth knowing about it."""
    status, name = run.status, run.metadata.name
    if status.outcome is None:
        due = status.due.phase if status.due else "its end"
        yield f"{name} was interrupted before {due} was complete; the same command goes on."
        return
    if status.outcome is RunOutcome.COMPLETED:
        yield f"{name} completed: all phases are done."
    else:
        yield f"{name} {_ends(run)}."
    stop = status.stop
    if stop is not None:
        yield f"Why: {stop.message}"
        phase = next((p for p in status.phases if p.phase is stop.phase), None)
        if phase is not None and phase.attempts and _log_helps(run):
            key = AttemptKey(phase.iteration, phase.phase, phase.attempts)
            yield f"Log: {workspace.attempt(*key).log}"
    yield from _policy(run, workspace)
    if status.outcome is not RunOutcome.COMPLETED:
        yield f"{RUN_AGAIN[0].upper()}{RUN_AGAIN[1:]}."


def _ends(run: RLHFRun) -> str:
    stop = run.status.stop
    assert run.status.outcome is not None  # noqa: S101 -- checked by the caller
    words = _ENDS[run.status.outcome]
    if stop is None or stop.phase is None:
        return words
    step = f" at step {stop.step}" if stop.step else ""
    return f"{words}, in {stop.phase}{step}"


def _log_helps(run: RLHFRun) -> bool:
    """Return whether the log tells more than the phase's own verdict."""
    stop = run.status.stop
    return stop is not None and (
        stop.by is StoppedBy.OPERATOR or stop.outcome is RunOutcome.OUT_OF_MEMORY
    )


def _policy(run: RLHFRun, workspace: Workspace) -> Iterator[str]:
    """Yield where the trained policy lies, if there is one."""
    ppo = next((phase for phase in run.status.phases if phase.phase is Phase.PPO), None)
    if ppo is None or ppo.model_path is None:
        return
    certified = ""
    if ppo.state is not PhaseState.SUCCEEDED and ppo.certified_step is not None:
        certified = f" (certified at step {ppo.certified_step})"
    yield f"Policy: {workspace.root / ppo.model_path}{certified}"


def _time(phase: PhaseStatus) -> str:
    if phase.start_time is None or phase.finish_time is None:
        return ""
    return in_words((phase.finish_time - phase.start_time).total_seconds())
