"""Moments of a phase that are the same in every run: its file operations and heartbeats."""

import sys
from collections.abc import Callable

from rlhf_trainer.telemetry.telemetry import RecordingTelemetry

OPERATIONS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.rmdir"})


class Moments:
    """Counts the moments of the attempt whose folder is named, and tells each number."""

    def __init__(self, folder: str, told: Callable[[int], None]) -> None:
        self.folder = folder
        self.count = 0
        self._told = told

    def watch(self) -> None:
        """Begin; there is no end to it."""
        beat, moments = RecordingTelemetry.heartbeat, self

        def heartbeat(telemetry: RecordingTelemetry) -> None:
            beat(telemetry)
            moments.pass_one()

        RecordingTelemetry.heartbeat = heartbeat  # type: ignore[method-assign] # looks on
        sys.addaudithook(self._audited)

    def pass_one(self) -> None:
        self.count += 1
        self._told(self.count)

    def _audited(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS:
            return
        path = str(arguments[0])
        # Progress is written by the clock: such moments are not the same in every run.
        if self.folder in path and "progress" not in path:
            self.pass_one()
