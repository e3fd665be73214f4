"""A telemetry whose clocks the test moves."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from rlhf_trainer.contract import AttemptPaths, Phase
from rlhf_trainer.telemetry.clock import Clock
from rlhf_trainer.telemetry.telemetry import RecordingTelemetry, RunInfo

INFO = RunInfo(run_name="helpful-7b", phase=Phase.PPO, iteration=1, attempt=2)


class HeldClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> Clock:
        return Clock(wall=lambda: 1_790_000_000 + self.now, monotonic=lambda: self.now)


class OpenTelemetry(Protocol):
    def __call__(self, port: int | None = None) -> RecordingTelemetry: ...


@pytest.fixture
def paths(tmp_path: Path) -> AttemptPaths:
    return AttemptPaths(tmp_path)


@pytest.fixture
def held_clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def open_telemetry(
    paths: AttemptPaths, held_clock: HeldClock, stream: io.StringIO
) -> Iterator[OpenTelemetry]:
    opened: list[Callable[[], None]] = []

    def open_one(port: int | None = None) -> RecordingTelemetry:
        telemetry = RecordingTelemetry(
            paths, INFO, port=port, clock=held_clock.clock(), stream=stream
        )
        opened.append(telemetry.close)
        return telemetry

    yield open_one
    for close in opened:
        close()
