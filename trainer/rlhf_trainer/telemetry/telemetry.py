"""What a phase calls to be seen: metrics, stage times, one record per step, progress.

Names and units are those of `contract.METRICS`; when a step ends and what is measured is up to the
phase; how it looks is up to `display`. On every rank but 0 nothing is done at all.
"""

import re
import resource
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from typing_extensions import override

from rlhf_trainer.contract import AttemptPaths, HistoryRecord, Phase, Progress
from rlhf_trainer.files import write_text
from rlhf_trainer.telemetry.clock import Clock
from rlhf_trainer.telemetry.display import StepView, display_for
from rlhf_trainer.telemetry.exporter import Exporter
from rlhf_trainer.telemetry.headline import headline
from rlhf_trainer.telemetry.history import HistoryFile
from rlhf_trainer.telemetry.progress import ProgressFile
from rlhf_trainer.telemetry.store import MetricStore

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class RunInfo:
    """Which run, phase, iteration and attempt a process belongs to."""

    run_name: str
    phase: Phase
    iteration: int
    attempt: int

    def labels(self) -> dict[str, str]:
        """Return the labels of `rlhf_run_info`."""
        return {
            "run_name": self.run_name,
            "phase_name": self.phase.value,
            "iteration_number": str(self.iteration),
            "attempt_number": str(self.attempt),
        }


class Telemetry(ABC):
    """What a phase reports to. Metric names come without the `rlhf_` prefix."""

    @staticmethod
    def open(paths: AttemptPaths, info: RunInfo, *, port: int | None, is_main: bool) -> "Telemetry":
        """Return the telemetry of this process; only the main one's does anything.

        `port`: where to serve /metrics; 0 takes any free port of this machine, None serves nothing.
        """
        return RecordingTelemetry(paths, info, port=port) if is_main else SilentTelemetry()

    @abstractmethod
    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge; it also enters the record of the step that is finished next."""

    @abstractmethod
    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter."""

    @abstractmethod
    def heartbeat(self) -> None:
        """Tell that work goes on: a micro-batch is done, or a block of what is saved.

        A run whose heartbeat stands still hangs.
        """

    @abstractmethod
    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage of the current step; stages of one name add up, stages do not nest."""

    @abstractmethod
    def finish_step(self, step: int, event: str = "") -> None:
        """End a step: append its record, show it, note the progress.

        `event`: what people should see at this step.
        """

    @abstractmethod
    def progress(self, step: int, total_steps: int, text: str) -> None:
        """Tell how far work without steps has come; leaves metrics and history alone."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Tell people something, as a line of the log."""

    @abstractmethod
    def close(self) -> None:
        """Write what is held back and stop serving."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class SilentTelemetry(Telemetry):
    """Telemetry of the ranks that report nothing."""

    @override
    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Do nothing."""

    @override
    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Do nothing."""

    @override
    def heartbeat(self) -> None:
        """Do nothing."""

    @override
    def stage(self, name: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    @override
    def finish_step(self, step: int, event: str = "") -> None:
        """Do nothing."""

    @override
    def progress(self, step: int, total_steps: int, text: str) -> None:
        """Do nothing."""

    @override
    def note(self, text: str) -> None:
        """Do nothing."""

    @override
    def close(self) -> None:
        """Do nothing."""


class RecordingTelemetry(Telemetry):
    """Telemetry of rank 0."""

    def __init__(
        self,
        paths: AttemptPaths,
        info: RunInfo,
        *,
        port: int | None,
        clock: Clock | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._store = MetricStore(info.labels())
        self._history = HistoryFile(paths.history)
        self._progress = ProgressFile(paths.progress, self._clock)
        self._display = display_for(info.phase, self._clock, stream)
        self._exporter = None if port is None else Exporter.start(port, self._store, self._history)
        if self._exporter is not None:
            port_file = paths.metrics_port
            write_text(port_file, f"{self._exporter.port}\n", durable=False)
        self._stage_name: str | None = None
        self._stage_seconds: dict[str, float] = {}
        self._step_began = self._clock.monotonic()

    @override
    def set(self, name: str, value: float, /, **labels: str) -> None:
        self._store.set(name, value, labels)

    @override
    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        self._store.increment(name, amount, labels)

    @override
    def heartbeat(self) -> None:
        self._store.increment("heartbeat", 1.0, {})
        self._progress.beat()

    @override
    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self._stage_name is not None:
            raise RuntimeError(f"stage={name!r}: {self._stage_name!r} is not finished yet")
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"stage={name!r}: not a name; use lower-case letters, digits and _")
        began = self._clock.monotonic()
        self._stage_name = name
        try:
            yield
        finally:
            self._stage_name = None
            seconds = self._clock.monotonic() - began
            self._stage_seconds[name] = self._stage_seconds.get(name, 0.0) + seconds

    @override
    def finish_step(self, step: int, event: str = "") -> None:
        if self._stage_name is not None:
            raise RuntimeError(f"step={step}: stage {self._stage_name!r} is not finished yet")
        values, stages = self._store.take_step(), self._stage_seconds
        self._stage_seconds = {}
        self._history.append(
            HistoryRecord(
                step=step,
                time=self._clock.wall(),
                values=values,
                stage_seconds=stages,
                event=event,
            )
        )
        self._store.set("step", step, {})
        self._store.replace("step_duration_seconds", stages)
        self._store.set("resident_memory_bytes", _largest_resident_bytes(), {})
        self._show(step, values, event)

    def _show(self, step: int, values: dict[str, float], event: str) -> None:
        now = self._clock.monotonic()
        total_steps = int(self._store.value("total_steps") or 0)
        numbers = headline(values, self._store.value("kl_limit_nats"))
        seconds, self._step_began = now - self._step_began, now
        self._progress.update(Progress(step=step, total_steps=total_steps, text=numbers))
        self._display.step(StepView(step, total_steps, values, seconds, numbers, event))

    @override
    def progress(self, step: int, total_steps: int, text: str) -> None:
        self._progress.update(Progress(step=step, total_steps=total_steps, text=text))
        self._display.activity(step, total_steps, text)

    @override
    def note(self, text: str) -> None:
        self._display.note(text)

    @override
    def close(self) -> None:
        self._progress.flush()
        self._display.close()
        self._history.close()
        if self._exporter is not None:
            self._exporter.close()
            self._exporter = None


def _largest_resident_bytes() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return size if sys.platform == "darwin" else size * 1024
