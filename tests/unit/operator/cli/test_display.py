from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlhf_operator.api import RLHFRun, RunStatus
from rlhf_operator.cli.display import Bar, Lines
from rlhf_operator.cli.sight import Watcher
from rlhf_operator.decide import Event, Observed, decide
from rlhf_operator.local import LocalBackend
from rlhf_trainer.contract import HistoryRecord, Progress, Workspace


@dataclass
class Stage:
    """A live attempt whose files are written by hand."""

    status: RunStatus
    backend: LocalBackend
    now: datetime
    lines: list[str] = field(default_factory=list)

    @property
    def watcher(self) -> Watcher:
        return Watcher(self.backend, lambda: self.now)

    def make_step(self, step: int, **values: float) -> None:
        assert self.status.live is not None
        paths = self.backend.paths(self.status.live.key)
        paths.root.mkdir(parents=True, exist_ok=True)
        progress = Progress(step=step, total_steps=20, text="reading [data]")
        paths.progress.write_text(progress.model_dump_json(by_alias=True))
        record = HistoryRecord(step=step, time=0.0, values=values)
        paths.history.write_text(record.model_dump_json(by_alias=True) + "\n")

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def stage(
    tmp_path: Path,
    build_run: Callable[..., RLHFRun],
    see: Callable[..., Observed],
    noon: datetime,
) -> Stage:
    status = decide(build_run(), see(), noon).status
    return Stage(status, LocalBackend(Workspace(tmp_path), tmp_path), noon)


def test_lines_are_written_when_steps_are_made_and_time_has_passed(stage: Stage) -> None:
    with Lines(stage.watcher, lambda: stage.now, stage.lines.append) as lines:
        lines.show(stage.status)
        for step in range(1, 7):
            stage.make_step(step, kl_nats=step / 2)
            lines.show(stage.status)
            lines.show(stage.status)
            stage.later(5)
    assert [line.split(" ", 1)[1] for line in stage.lines] == [
        "Preparation step=1/20 kl_nats=0.5",
        "Preparation step=3/20 kl_nats=1.5 eta_seconds=85",
        "Preparation step=5/20 kl_nats=2.5 eta_seconds=75",
    ]


def test_lines_say_nothing_while_nothing_is_alive(stage: Stage) -> None:
    lines = Lines(stage.watcher, lambda: stage.now, stage.lines.append)
    lines.show(RunStatus())
    lines.tell(Event("Reason", "it happened"))
    assert [line.split(" ", 1)[1] for line in stage.lines] == ["it happened"]


def test_bar_shows_step_headlines_and_remaining_time(stage: Stage) -> None:
    output = StringIO()
    console = Console(file=output, width=100, force_terminal=True, color_system=None)
    with Bar(stage.watcher, lambda: stage.now, console) as bar:
        stage.make_step(2)
        bar.show(stage.status)
        bar._progress.refresh()
        stage.later(30)
        stage.make_step(5, kl_nats=4.5, reward_score=-0.25)
        bar.show(stage.status)
        bar._progress.refresh()
        bar.tell(Event("Reason", "it [happened]", is_warning=True))
        bar.show(RunStatus())
    text = output.getvalue()
    assert "2/20" in text
    assert "reading [data]" in text
    assert "2 min 30 s left" in text
    assert "it [happened]" in text
