"""How far the live attempt has come, for whatever shows it. Reads its files and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlhf_operator.api import AttemptKey, RunStatus
from rlhf_operator.cli.pace import Pace
from rlhf_operator.local.backend import LocalBackend
from rlhf_operator.local.progress import read_last_record, read_shown_progress
from rlhf_operator.reconcile import Clock


@dataclass(frozen=True)
class Sight:
    """How far the live attempt has come."""

    key: AttemptKey
    step: int
    total_steps: int
    text: str
    values: Mapping[str, float]
    """Last measurements, by the trainer's names."""
    remaining_seconds: float | None


@dataclass
class Watcher:
    """Looks at the live attempt's files, and remembers how fast it goes."""

    backend: LocalBackend
    clock: Clock
    _pace: dict[AttemptKey, Pace] = field(default_factory=dict)

    def look(self, status: RunStatus) -> Sight | None:
        """Return how far the live attempt has come, or None if there is none."""
        if status.live is None:
            return None
        key = status.live.key
        paths = self.backend.paths(key)
        shown, record = read_shown_progress(paths), read_last_record(paths)
        step, total = (
            (shown.step, shown.total_steps) if shown else (record.step if record else 0, 0)
        )
        now, remaining = self.clock(), None
        if step:
            # From the first step that is seen: what comes before is start-up, or an earlier run's.
            pace = self._pace.setdefault(key, Pace(now, step))
            remaining = pace.remaining_seconds(now, step, total)
        return Sight(
            key=key,
            step=step,
            total_steps=total,
            text=shown.text if shown else "",
            values=record.values if record else {},
            remaining_seconds=remaining,
        )
