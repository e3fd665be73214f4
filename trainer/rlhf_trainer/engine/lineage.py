"""Which checkpoint an attempt goes on from: picked once, taken over, and put on record.

An earlier attempt may still be alive, unseen, and go on writing. Its later checkpoints never count:
they are no part of the line that leads to the attempt after it.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhf_trainer.contract import AttemptPaths, ResumedFrom
from rlhf_trainer.files import put_in_place, remove_folder, write_text

Attempts = Callable[[int], AttemptPaths]
"""The attempts at a phase, by number."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that an attempt may go on from."""

    attempt: int
    step: int
    path: Path


def complete_steps(paths: AttemptPaths) -> list[int]:
    """Return the steps of an attempt's checkpoints, oldest first.

    A folder gets its name when it is complete; whether it still is, its manifest tells.
    """
    names = (path.name.removeprefix("step-") for path in paths.checkpoints.glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def candidates(attempts: Attempts, attempt: int) -> Iterator[Candidate]:
    """Yield the checkpoints in the line that leads to `attempt`, newest first."""
    earlier, limit = attempt - 1, None
    while earlier > 0:
        paths = attempts(earlier)
        for step in reversed(complete_steps(paths)):
            if limit is None or step <= limit:
                yield Candidate(earlier, step, paths.checkpoint(step))
        record = read_record(paths)
        if record is None:
            # It ended before it could pick anything.
            earlier -= 1
        elif record.attempt is None or record.attempt >= earlier:
            return
        else:
            earlier, limit = record.attempt, record.step


def pick(
    found: Iterable[Candidate],
    flaw: Callable[[Path], str | None],
    note: Callable[[str], None],
) -> Candidate | None:
    """Return the first checkpoint without a flaw; `note` is told of each that has one."""
    for candidate in found:
        problem = flaw(candidate.path)
        if problem is None:
            return candidate
        note(
            f"checkpoint of step {candidate.step}, attempt {candidate.attempt}, is not used: "
            f"{problem}"
        )
    return None


def read_record(paths: AttemptPaths) -> ResumedFrom | None:
    """Return what an attempt went on from; None if it has not picked yet."""
    try:
        return ResumedFrom.model_validate_json(paths.resumed_from.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write_record(paths: AttemptPaths, record: ResumedFrom) -> None:
    """Put on record what an attempt goes on from."""
    write_text(paths.resumed_from, record.model_dump_json(by_alias=True) + "\n")


def take_over(checkpoint: Path, folder: Path) -> None:
    """Make `folder` the same checkpoint, so that nothing its maker does can take it away.

    Files are shared by hard links; where the volume knows none they are copied.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary, copy_function=_link)
    put_in_place(temporary, folder)


def remove_predecessors(attempts: Attempts, attempt: int) -> None:
    """Remove the checkpoints of earlier attempts: what is still needed has been taken over."""
    for earlier in range(1, attempt):
        remove_folder(attempts(earlier).checkpoints)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
