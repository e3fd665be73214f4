"""`rlhf run`: one run in one workspace, from its manifest to its summary."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from rlhf_operator.api import PhaseState, RLHFRun
from rlhf_operator.cli.display import Bar, Lines
from rlhf_operator.cli.drive import drive
from rlhf_operator.cli.exit_codes import INTERRUPTED
from rlhf_operator.cli.output import lasting_console
from rlhf_operator.cli.sight import Watcher
from rlhf_operator.cli.summary import conclusion, summary_table
from rlhf_operator.cli.trainer import REPORT, capture, failure
from rlhf_operator.errors import RUN_AGAIN
from rlhf_operator.local import (
    LocalBackend,
    RunStore,
    local_refusal,
    locked,
    open_run,
)
from rlhf_operator.local.backend import LAUNCHER
from rlhf_trainer.contract import Workspace


def run_manifest(
    wanted: RLHFRun,
    data_root: Path,
    root: Path,
    *,
    fresh: bool,
    launcher: Sequence[str] = LAUNCHER,
) -> int:
    """Run a manifest in the workspace at `root` and return the exit code of `rlhf run`.

    Raises:
        SpecError: it cannot be placed on this machine, or the workspace belongs to another run.
        WorkspaceInUseError: another `rlhf run` works there.
    """
    refused = local_refusal(wanted.spec)
    if refused is not None:
        raise refused
    console = lasting_console()
    # Its processes are found by this path's text: however it is spelled, it is one.
    workspace = Workspace(Path(os.path.realpath(root)))
    with locked(workspace):
        store = RunStore(workspace, data_root)
        run = open_run(store, wanted, fresh=fresh)
        _say_what_is_reused(run, workspace, console)
        if run.status.outcome is None:
            backend = LocalBackend(workspace, data_root, launcher)
            with _display(backend, console) as display:
                status = asyncio.run(drive(run, backend, display, _now))
            run = run.model_copy(update={"status": status})
            if status.outcome is not None:
                _write_report(workspace, console)
        _sum_up(run, workspace, console)
    return INTERRUPTED if run.status.outcome is None else run.status.outcome.exit_code


def _say_what_is_reused(run: RLHFRun, workspace: Workspace, console: Console) -> None:
    name = run.metadata.name
    if run.status.outcome is not None:
        ended = f"{name} has already ended in {workspace.root}: nothing is run again"
        _say(console, f"{ended}; {RUN_AGAIN}.")
        return
    complete = [p.phase.value for p in run.status.phases if p.state is PhaseState.SUCCEEDED]
    if complete:
        done = f"{', '.join(complete)} {'is' if len(complete) == 1 else 'are'} complete and re-used"
        _say(console, f"{name} goes on in {workspace.root}: {done}.")
    elif run.status.phases:
        _say(console, f"{name} goes on in {workspace.root}.")
    else:
        _say(console, f"{name} begins in {workspace.root}.")


def _display(backend: LocalBackend, console: Console) -> AbstractContextManager[Bar | Lines]:
    watcher = Watcher(backend, _now)
    if console.is_terminal:
        return Bar(watcher, _now, console)
    return Lines(watcher, _now, lambda line: _say(console, line))


def _write_report(workspace: Workspace, console: Console) -> None:
    done = capture(REPORT, str(workspace.root))
    if done.returncode != 0:
        _say(console, f"The report could not be written: {failure(REPORT, done)}")


def _sum_up(run: RLHFRun, workspace: Workspace, console: Console) -> None:
    console.print(summary_table(run))
    for line in conclusion(run, workspace):
        _say(console, line)
    if run.status.outcome is not None and workspace.report.exists():
        _say(console, f"Report: {workspace.report}")


def _say(console: Console, line: str) -> None:
    """Print a line as it is: never wrapped, never read as markup."""
    console.print(line, markup=False, soft_wrap=True)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 -- the edge: everything below is handed this clock
