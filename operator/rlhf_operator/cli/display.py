"""What people see of a run while it goes on: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rlhf_operator.api import AttemptKey, RunStatus
from rlhf_operator.cli.pace import in_words
from rlhf_operator.cli.sight import Watcher
from rlhf_operator.decide import Event
from rlhf_operator.reconcile import Clock

LINE_INTERVAL = timedelta(seconds=10)
"""Least time between two lines about the same phase."""

HEADLINES = {
    'loss{name="sft"}': "loss",
    'loss{name="reward"}': "loss",
    "kl_nats": "kl_nats",
    "reward_score": "reward_score",
    "entropy_nats_per_token": "entropy_nats_per_token",
    "preference_accuracy": "preference_accuracy",
    "win_rate": "win_rate",
}
"""Measurements worth a place in a line, and their names there."""


class Lines:
    """A line when something happens, and one every few seconds while steps are made."""

    def __init__(self, watcher: Watcher, clock: Clock, write: Callable[[str], None]) -> None:
        self._watcher, self._clock, self._write = watcher, clock, write
        self._last: tuple[AttemptKey, int] | None = None
        self._due: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, event: Event) -> None:
        """Print what has happened."""
        self._write(f"{self._now():%H:%M:%S} {event.message}")

    def show(self, status: RunStatus) -> None:
        """Print how far the run has come, if a step has been made and a line is due."""
        sight = self._watcher.look(status)
        if sight is None or (sight.key, sight.step) == self._last or sight.step == 0:
            return
        now = self._now()
        if self._due is not None and now < self._due and self._last and self._last[0] == sight.key:
            return
        pairs = [f"step={sight.step}/{sight.total_steps or '?'}"]
        pairs += [
            f"{label}={sight.values[name]:.4g}"
            for name, label in HEADLINES.items()
            if name in sight.values
        ]
        if sight.remaining_seconds is not None:
            pairs.append(f"eta_seconds={sight.remaining_seconds:.0f}")
        self._write(f"{now:%H:%M:%S} {sight.key.phase} {' '.join(pairs)}")
        self._last, self._due = (sight.key, sight.step), now + LINE_INTERVAL

    def _now(self) -> datetime:
        return self._clock().astimezone()


class Bar:
    """One bar for the phase that runs; what happens scrolls above it."""

    def __init__(self, watcher: Watcher, clock: Clock, console: Console) -> None:
        self._watcher, self._clock = watcher, clock
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("[dim]{task.fields[eta]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._key: AttemptKey | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def tell(self, event: Event) -> None:
        """Print what has happened above the bar."""
        style = "yellow" if event.is_warning else "default"
        now = self._clock().astimezone()
        self._progress.console.print(
            f"[dim]{now:%H:%M:%S}[/] [{style}]{escape(event.message)}[/]", highlight=False
        )

    def show(self, status: RunStatus) -> None:
        """Move the bar."""
        sight = self._watcher.look(status)
        if self._task is not None and (sight is None or sight.key != self._key):
            self._progress.remove_task(self._task)
            self._task = None
        if sight is None:
            return
        if self._task is None:
            self._task = self._progress.add_task(
                sight.key.phase.value, total=None, steps="", numbers="", eta=""
            )
            self._key = sight.key
        eta = sight.remaining_seconds
        self._progress.update(
            self._task,
            total=sight.total_steps or None,
            completed=sight.step,
            steps=f"{sight.step}/{sight.total_steps}" if sight.total_steps else "",
            numbers=escape(sight.text),
            eta="" if eta is None else f"{in_words(eta)} left",
        )
