"""Commands of the trainer, as subprocesses: they import torch, and the command line does not."""

import subprocess
import sys

from rlhf_operator.errors import TrainerError

DATA_CHECK = "rlhf_trainer.data.check"
AGREEMENT = "rlhf_trainer.data.agreement_command"
PLAN = "rlhf_trainer.phases.plan_command"
REPORT = "rlhf_trainer.report"


def stream(module: str, *arguments: str) -> int:
    """Run a command of the trainer on this terminal and return its exit code."""
    return subprocess.run(_command(module, arguments), check=False).returncode  # noqa: S603 -- ours


def capture(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the trainer and return what it printed and how it ended."""
    return subprocess.run(  # noqa: S603 -- ours
        _command(module, arguments), check=False, capture_output=True, text=True
    )


def failure(module: str, done: subprocess.CompletedProcess[str]) -> TrainerError:
    """Return the error that tells of a command that failed."""
    lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"]
    return TrainerError(f"python -m {module}: exit code {done.returncode}: {lines[-1]}")


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
