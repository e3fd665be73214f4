"""What people see while a phase runs: a bar on a terminal, a line per step anywhere else."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import override

from rlhf_trainer.contract import Phase
from rlhf_trainer.telemetry.clock import Clock
from rlhf_trainer.telemetry.headline import log_line, one_line, step_fields

LINE_WIDTH = 240
"""Longest log line, in characters."""

_ACTIVITY_SECONDS = 10.0
"""Time between two lines about work without steps."""


@dataclass(frozen=True)
class StepView:
    """What a display is told about a step."""

    step: int
    total_steps: int
    """0 while unknown."""
    values: Mapping[str, float]
    seconds: float
    headline: str
    event: str


class Display(ABC):
    """Shows a phase to people."""

    @abstractmethod
    def step(self, view: StepView) -> None:
        """Show a finished step."""

    @abstractmethod
    def activity(self, step: int, total_steps: int, text: str) -> None:
        """Show how far work without steps has come."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a sentence that stays readable."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal as it was found."""


def display_for(phase: Phase, clock: Clock, stream: TextIO | None = None) -> Display:
    """Return the display that suits the stream, stderr unless one is given."""
    stream = stream or sys.stderr
    if stream.isatty():
        return BarDisplay(phase, Console(file=stream))
    return LineDisplay(phase, clock, stream)


class LineDisplay(Display):
    """One structured line per step, for logs."""

    def __init__(self, phase: Phase, clock: Clock, stream: TextIO) -> None:
        self._phase = phase
        self._clock = clock
        self._stream = stream
        self._last_activity = float("-inf")

    @override
    def step(self, view: StepView) -> None:
        fields = step_fields(view.values, view.seconds)
        self._print([self._step_field(view.step, view.total_steps), *fields], event=view.event)

    @override
    def activity(self, step: int, total_steps: int, text: str) -> None:
        now = self._clock.monotonic()
        if now - self._last_activity < _ACTIVITY_SECONDS and step != total_steps:
            return
        self._last_activity = now
        self._print([self._step_field(step, total_steps)], event=text)

    @override
    def note(self, text: str) -> None:
        # Never shortened: this is where a verdict and its remedy stand.
        self._print([], event=text, width=LINE_WIDTH + len(text))

    @override
    def close(self) -> None:
        self._stream.flush()

    def _step_field(self, step: int, total_steps: int) -> tuple[str, str]:
        return ("step", f"{step}/{total_steps}" if total_steps else str(step))

    def _print(self, fields: list[tuple[str, str]], *, event: str, width: int = LINE_WIDTH) -> None:
        fields = [("phase", self._phase.slug), *fields]
        line = log_line(self._clock.wall(), fields, width=width, event=event)
        self._stream.write(line + "\n")
        self._stream.flush()


class BarDisplay(Display):
    """A progress bar with step, headline numbers and time left; sentences scroll above it."""

    def __init__(self, phase: Phase, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[numbers]}"),
            TextColumn("[dim]left"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task = self._bar.add_task(phase.slug, total=None, numbers="")
        self._bar.start()

    @override
    def step(self, view: StepView) -> None:
        if view.event:
            self.note(view.event)
        self._move(view.step, view.total_steps, view.headline)

    @override
    def activity(self, step: int, total_steps: int, text: str) -> None:
        self._move(step, total_steps, one_line(text))

    @override
    def note(self, text: str) -> None:
        self._console.print(Text(one_line(text)))

    @override
    def close(self) -> None:
        self._bar.stop()

    def _move(self, step: int, total_steps: int, numbers: str) -> None:
        self._bar.update(
            self._task, completed=step, total=total_steps or None, numbers=_plain(numbers)
        )


def _plain(text: str) -> str:
    """Keep brackets from being read as rich's markup."""
    return text.replace("[", r"\[")
