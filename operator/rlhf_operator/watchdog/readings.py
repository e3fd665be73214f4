"""The latest readings of all attempts: kept until the status knows them, and lost without harm.

Whoever starts anew reads the history again, from the step that the status knows.
"""

import math
from dataclasses import dataclass, field, replace

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.decide import AttemptProgress
from rlhf_operator.watchdog.parsing import CERTIFIED
from rlhf_operator.watchdog.reader import Reading, shown_metrics

KL = "kl_nats"

UNREADABLE_SECONDS = 30.0
"""How long nothing could be read before that is said: a pod needs a while to serve its metrics, and
ends a moment after it stops to.
"""

MAXIMUM_STEPS = 20_000
"""Steps that wait for the status: taken in twice a minute, less often where writes are many."""


@dataclass
class _Known:
    attempt: AttemptKey
    progress: AttemptProgress = field(default_factory=AttemptProgress)
    last_step: int | None = None
    kl_nats: list[tuple[int, float]] = field(default_factory=list)
    failing_since: float | None = None


class Readings:
    """What has been read, by run: only of its live attempt."""

    def __init__(self) -> None:
        self._known: dict[RunKey, _Known] = {}

    def progress(self, key: RunKey, attempt: AttemptKey, since: int | None) -> AttemptProgress:
        """Return how far an attempt has come; the steps up to `since` are known already."""
        known = self._known.get(key)
        if known is None or known.attempt != attempt:
            return AttemptProgress()
        if since is not None:
            known.kl_nats = [(step, value) for step, value in known.kl_nats if step > since]
        return replace(known.progress, kl_nats=tuple(known.kl_nats))

    def knows(self, key: RunKey, attempt: AttemptKey) -> bool:
        """Return whether anybody has tried to read an attempt."""
        known = self._known.get(key)
        return known is not None and known.attempt == attempt

    def since(self, key: RunKey, attempt: AttemptKey, known_step: int | None) -> int:
        """Return the step after which the next reading of an attempt begins; -1 for all."""
        known = self._known.get(key)
        if known is not None and known.attempt == attempt and known.last_step is not None:
            return known.last_step
        return -1 if known_step is None else known_step

    def take(
        self, key: RunKey, attempt: AttemptKey, reading: Reading | None, now_seconds: float
    ) -> None:
        """Take in a reading, or that there was none, at a moment of a clock that never jumps."""
        known = self._known.get(key)
        if known is None or known.attempt != attempt:
            known = self._known[key] = _Known(attempt)
        if reading is None:
            # What was read before stands; a heartbeat that cannot be read is no sign of a hang.
            known.progress = replace(known.progress, heartbeat=None)
            known.failing_since = known.failing_since or now_seconds
            if now_seconds >= known.failing_since + UNREADABLE_SECONDS:
                known.progress = replace(known.progress, metrics_available=False)
            return
        known.failing_since = None
        changes: dict[str, object] = {"metrics_available": True, "heartbeat": reading.heartbeat}
        if reading.checkpoint_step is not None:
            changes["checkpoint_step"] = reading.checkpoint_step
        for record in reading.records:
            known.last_step = record.step
            value = record.values.get(KL)
            if value is not None and math.isfinite(value):
                known.kl_nats.append((record.step, value))
            changes |= {"step": record.step, "metrics": shown_metrics(record)}
            certified = record.values.get(CERTIFIED)
            if certified is not None and math.isfinite(certified):
                changes["certified_step"] = int(certified)
        del known.kl_nats[:-MAXIMUM_STEPS]
        known.progress = replace(known.progress, **changes)  # type: ignore[arg-type]  # checked by name

    def forget(self, key: RunKey) -> None:
        """Drop what belongs to a run that is gone."""
        self._known.pop(key, None)
