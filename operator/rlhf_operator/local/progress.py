"""How far an attempt has come, read from its files; one that is not there yet says nothing."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from rlhf_operator.decide import AttemptProgress
from rlhf_trainer.contract import AttemptPaths, HistoryRecord, Progress, Result

TAIL_BYTES = 65_536
"""How much of the history's end is read: many times the length of a record."""

_CHECKPOINT = re.compile(r"step-(\d+)")


def read_progress(paths: AttemptPaths) -> AttemptProgress:
    """Return what policy needs to know about an attempt."""
    progress, record = read_shown_progress(paths), read_last_record(paths)
    values = record.values if record else {}
    certified = values.get("certified_step")
    step = progress.step if progress else record.step if record else None
    return AttemptProgress(
        step=step,
        checkpoint_step=max(_checkpoints(paths), default=None),
        certified_step=None if certified is None else int(certified),
        # Series with labels, such as losses by name, are left to the history.
        metrics={
            to_camel(name): value
            for name, value in values.items()
            if "{" not in name and math.isfinite(value)
        },
        heartbeat=_last_write(paths),
    )


def read_shown_progress(paths: AttemptPaths) -> Progress | None:
    """Return what the phase wants shown on a progress bar."""
    try:
        return Progress.model_validate_json(paths.progress.read_bytes())
    except (OSError, ValidationError):
        return None


def read_last_record(paths: AttemptPaths) -> HistoryRecord | None:
    """Return the newest whole record of the history."""
    for line in reversed(_tail(paths.history).splitlines()):
        try:
            return HistoryRecord.model_validate_json(line)
        except ValidationError:
            # The last line may be half written, the first one cut off.
            continue
    return None


def read_result(paths: AttemptPaths) -> Result | None:
    """Return what the attempt said about its end."""
    try:
        return Result.from_json(paths.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - TAIL_BYTES, 0))
            return file.read()
    except OSError:
        return b""


def _checkpoints(paths: AttemptPaths) -> Iterator[int]:
    """Yield the steps of complete checkpoints: a folder gets its name when it is complete."""
    if paths.checkpoints.is_dir():
        for entry in paths.checkpoints.iterdir():
            if match := _CHECKPOINT.fullmatch(entry.name):
                yield int(match[1])


def _last_write(paths: AttemptPaths) -> int | None:
    """Return when the attempt last wrote something: its sign of life on one machine."""
    times = []
    for path in (paths.progress, paths.history, paths.log):
        try:
            times.append(path.stat().st_mtime_ns)
        except OSError:
            continue
    return max(times, default=None)
