"""`progress.json`: how far a phase has come, for whoever draws a bar from outside."""

from pathlib import Path

from rlhf_trainer.contract import Progress
from rlhf_trainer.files import write_text
from rlhf_trainer.telemetry.clock import Clock

_SECONDS_BETWEEN_WRITES = 0.25
"""Faster than eyes, slow enough for a network volume."""

_SECONDS_BETWEEN_BEATS = 5.0
"""Far below the time after which silence is taken for a hang."""


class ProgressFile:
    """Rewrites the file a few times a second at most; `flush` writes what was held back."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._written_at = float("-inf")
        self._held_back: Progress | None = None
        self._newest = Progress(step=0, total_steps=0)

    def update(self, progress: Progress) -> None:
        """Write now, or keep for later if the file has just been written."""
        self._held_back = self._newest = progress
        if self._clock.monotonic() - self._written_at >= _SECONDS_BETWEEN_WRITES:
            self.flush()

    def beat(self) -> None:
        """Write the newest again if it is some seconds old: whoever watches sees work go on."""
        if self._clock.monotonic() - self._written_at >= _SECONDS_BETWEEN_BEATS:
            self._held_back = self._newest
            self.flush()

    def flush(self) -> None:
        """Write what was held back."""
        if self._held_back is None:
            return
        text = self._held_back.model_dump_json(by_alias=True)
        write_text(self._path, text + "\n", durable=False)
        self._held_back = None
        self._written_at = self._clock.monotonic()
