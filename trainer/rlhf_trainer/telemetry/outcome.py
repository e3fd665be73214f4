"""Writes how a rank, or a phase, ended. Which outcome it is, the phase and the launcher decide."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from rlhf_trainer.contract import AttemptPaths, Result
from rlhf_trainer.files import write_text

TERMINATION_LOG = Path("/dev/termination-log")
"""The kubelet's default `terminationMessagePath`; it makes the file before the container starts."""

TERMINATION_LOG_VARIABLE = "RLHF_TERMINATION_LOG"
"""Environment variable that names another file."""


def write_rank_outcome(paths: AttemptPaths, rank: int, result: Result) -> None:
    """Write one rank's verdict, which its launcher reads once the rank has ended.

    Where the workspace takes nothing any more, which may be the verdict, it goes to this machine's
    own temporary folder.
    """
    text = result.to_json() + "\n"
    try:
        write_text(paths.rank_outcome(rank), text)
    except OSError:
        write_text(spare_rank_outcome(rank, os.getppid()), text)


def spare_rank_outcome(rank: int, launcher_pid: int) -> Path:
    """Return where a rank's verdict lies if the workspace did not take it."""
    return Path(tempfile.gettempdir()) / f"rlhf-outcome-{launcher_pid}-{rank}.json"


def write_result(paths: AttemptPaths, result: Result) -> None:
    """Write the verdict on the attempt as a whole."""
    write_text(paths.result, result.to_json() + "\n")


def write_termination_message(result: Result) -> None:
    """Give the verdict to the kubelet, if it has left a file for it.

    Outside Kubernetes there is no such file; a message that cannot be written is not worth failing
    for, as `result.json` says the same.
    """
    path = Path(os.environ.get(TERMINATION_LOG_VARIABLE) or TERMINATION_LOG)
    if path.is_file():
        with suppress(OSError):
            # Written in place: the file is a bind mount, which nothing can be renamed over.
            path.write_text(result.to_json(), encoding="utf-8")
