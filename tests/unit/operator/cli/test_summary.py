from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlhf_operator.api import (
    PhaseState,
    PhaseStatus,
    RLHFRun,
    RunOutcome,
    RunStatus,
    StoppedBy,
    StopStatus,
)
from rlhf_operator.cli.summary import conclusion, summary_table
from rlhf_trainer.contract import Phase, Workspace

WORKSPACE = Workspace(Path("/w"))


@pytest.fixture
def ended(build_run: Callable[..., RLHFRun], noon: datetime) -> Callable[..., RLHFRun]:
    """Build a run whose PPO ended the run."""

    def build(
        outcome: RunOutcome | None, by: StoppedBy = StoppedBy.TRAINER, **ppo: object
    ) -> RLHFRun:
        phase = PhaseStatus(iteration=1, phase=Phase.PPO, attempts=2).evolve(**ppo)
        stop = StopStatus(
            outcome=outcome or RunOutcome.COMPLETED,
            reason="Reason",
            by=by,
            message="because",
            time=noon,
            phase=Phase.PPO,
            step=7,
        )
        is_stopped = outcome not in (None, RunOutcome.COMPLETED)
        status = RunStatus(phases=(phase,)).evolve(
            outcome=outcome, stop=stop if is_stopped else None
        )
        return build_run(status=status)

    return build


@pytest.mark.parametrize("outcome", [o for o in RunOutcome if o is not RunOutcome.COMPLETED])
def test_conclusion_of_every_outcome_says_where_and_why(
    ended: Callable[..., RLHFRun], outcome: RunOutcome
) -> None:
    first, why, *_ = conclusion(ended(outcome), WORKSPACE)
    assert first.startswith("demo ")
    assert first.endswith(", in PPO at step 7.")
    assert why == "Why: because"


def test_conclusion_of_a_guard_s_stop_names_the_certified_policy(
    ended: Callable[..., RLHFRun],
) -> None:
    run = ended(RunOutcome.STOPPED, state=PhaseState.STOPPED, model_path="m", certified_step=5)
    assert list(conclusion(run, WORKSPACE)) == [
        "demo was stopped by the guard, in PPO at step 7.",
        "Why: because",
        "Policy: /w/m (certified at step 5)",
        "To run it again, use --fresh, or another --workspace.",
    ]


def test_conclusion_of_exhausted_retries_names_the_log(ended: Callable[..., RLHFRun]) -> None:
    run = ended(RunOutcome.RETRIES_EXHAUSTED, StoppedBy.OPERATOR)
    assert list(conclusion(run, WORKSPACE))[2] == "Log: /w/iteration-1/ppo/attempt-2/log.txt"


def test_conclusion_of_a_completed_run_names_the_policy(ended: Callable[..., RLHFRun]) -> None:
    run = ended(RunOutcome.COMPLETED, state=PhaseState.SUCCEEDED, model_path="m", certified_step=9)
    assert list(conclusion(run, WORKSPACE)) == [
        "demo completed: all phases are done.",
        "Policy: /w/m",
    ]


def test_conclusion_of_an_interrupted_run_says_how_to_go_on(
    ended: Callable[..., RLHFRun],
) -> None:
    assert list(conclusion(ended(None), WORKSPACE)) == [
        "demo was interrupted before PPO was complete; the same command goes on."
    ]


def test_summary_table_shows_state_time_attempts_and_headlines(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    skipped = PhaseStatus(iteration=1, phase=Phase.SFT).evolve(
        state=PhaseState.SKIPPED, model_path="models/[sft]"
    )
    ppo = PhaseStatus(iteration=1, phase=Phase.PPO).evolve(
        state=PhaseState.SUCCEEDED,
        attempts=2,
        start_time=noon,
        finish_time=noon + timedelta(seconds=83),
        metrics={"a": 1, "klNats": 4.21987, "b": 2, "winRate": 0.75, "c": 3, "d": 4},
    )
    console = Console(width=120, record=True, file=StringIO())
    console.print(summary_table(build_run(status=RunStatus(phases=(skipped, ppo)))))
    rows = [line.split("│") for line in console.export_text().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows] == [
        ["SFT", "Skipped", "", "", "from models/[sft]"],
        ["PPO", "Succeeded", "1 min 23 s", "2", "winRate 0.75, klNats 4.22, a 1, b 2, c 3"],
    ]
