"""How far the live attempt has come, for whatever shows it. Reads its files and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlhf_operator.api import AttemptKey, RunStatus
from rlhf_operator.cli.pace import Pace
from rlhf_operator.local.backend import LocalBackend
from rlhf_operator.local.progress import read_progress, read_shown_progress
from rlhf_operator.reconcile import Clock


@dataclass(frozen=True)
class Sight:
    """How far the live attempt has come."""

    key: AttemptKey
    step: int
    total_steps: int
    text: str
    metrics: Mapping[str, float]
    remaining_seconds: float | None

    @property
    def numbers(self) -> str:
        """Headline metrics, for a bar."""
        names = {"klNats": "KL", "rewardScore": "reward"}
        shown = [
            f"{names[name]} {self.metrics[name]:.3g}" for name in names if name in self.metrics
        ]
        return "  ".join(shown) or self.text


@dataclass
class Watcher:
    """Looks at the live attempt's files, and remembers how fast it goes."""

    backend: LocalBackend
    clock: Clock
    _pace: dict[AttemptKey, Pace] = field(default_factory=dict)

    def look(self, status: RunStatus) -> Sight | None:
        """Return how far the live attempt has come, or None if there is none."""
        live = status.live
        key = live.live_key if live else None
        if key is None:
            return None
        paths = self.backend.paths(key)
        shown, progress = read_shown_progress(paths), read_progress(paths)
        step, total = (shown.step, shown.total_steps) if shown else (progress.step or 0, 0)
        pace = self._pace.setdefault(key, Pace(self.clock(), step))
        return Sight(
            key=key,
            step=step,
            total_steps=total,
            text=shown.text if shown else "",
            metrics=progress.metrics,
            remaining_seconds=pace.remaining_seconds(self.clock(), step, total),
        )
