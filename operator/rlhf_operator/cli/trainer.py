"""Commands of the trainer, as subprocesses: they import torch, and the command line does not."""

import subprocess
import sys

from rlhf_operator.errors import TrainerError

DATA_CHECK = "rlhf_trainer.data.check"
AGREEMENT = "rlhf_trainer.data.agreement_command"
REPORT = "rlhf_trainer.report"


def stream(module: str, *arguments: str) -> int:
    """Run a command of the trainer on this terminal and return its exit code."""
    return subprocess.run(_command(module, arguments), check=False).returncode  # noqa: S603 -- ours


def capture(module: str, *arguments: str, accepted: tuple[int, ...] = (0,)) -> str:
    """Run a command of the trainer and return what it printed.

    Raises:
        TrainerError: it ended with another exit code than the accepted ones.
    """
    done = subprocess.run(  # noqa: S603 -- ours
        _command(module, arguments), check=False, capture_output=True, text=True
    )
    if done.returncode not in accepted:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise TrainerError(f"python -m {module}: exit code {done.returncode}: {lines[-1]}")
    return done.stdout


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
