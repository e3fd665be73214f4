"""Lets processes take steps in turns, so that what the machine goes through, all go through."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from stopwatch import MARK, READY, STEP, Stages, summary

TREE = Path(__file__).resolve().parents[1]
"""That which this file belongs to."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
"""What every side runs under: memory that a process has had stays with it. Fresh large tensors from
the system cost a page fault for each 4 KiB."""


@dataclass(frozen=True)
class Side:
    """A process that steps when it is told to."""

    name: str
    program: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass
class Measured:
    """What the steps of one side took."""

    steps: list[Stages] = field(default_factory=list)
    """The first is a warm-up and not counted."""
    peak_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """What the process says besides."""

    def median(self, stage: str, kind: str = "cpu") -> float:
        """Return a stage's median in seconds; 0 for a stage that this side does not have."""
        found: float = summary(self.steps)["median"].get(stage, {}).get(kind, 0.0)
        return found


class Process:
    """A running side."""

    def __init__(self, side: Side) -> None:
        self.side, self.measured = side, Measured()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed on exit
        self._process = subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, *side.program],
            env=dict(side.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()
        self._process.wait()

    def wait_until_ready(self) -> None:
        """Wait until the process has set everything up."""
        self._read(READY)

    def step(self) -> Stages:
        """Let the process take a step."""
        self._write(STEP)
        message = self._read(STEP)
        self.measured.steps.append(message["stages"])
        self.measured.peak_bytes = max(self.measured.peak_bytes, message["peakBytes"])
        return self.measured.steps[-1]

    def end(self) -> Measured:
        """Let the process end; return what it has said in all."""
        _pipe(self._process.stdin).close()
        for line in _pipe(self._process.stdout):
            if line.startswith(MARK):
                self.measured.facts.update(json.loads(line.removeprefix(MARK)))
        if self._process.wait():
            raise RuntimeError(self._trouble())
        return self.measured

    def _write(self, line: str) -> None:
        stdin = _pipe(self._process.stdin)
        stdin.write(line + "\n")
        stdin.flush()

    def _read(self, what: str) -> dict[str, Any]:
        for line in _pipe(self._process.stdout):
            if line.startswith(MARK):
                message: dict[str, Any] = json.loads(line.removeprefix(MARK))
                if message["what"] == what:
                    return message
                self.measured.facts.update(message)
        raise RuntimeError(self._trouble())

    def _trouble(self) -> str:
        self._log.seek(0)
        return f"{self.side.name} has ended with {self._process.wait()}: {self._log.read()[-3000:]}"


def take_turns(sides: Sequence[Side], rounds: int) -> dict[str, Measured]:
    """Run all sides, each a step after the other, so many times and once to warm up."""
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(side)) for side in sides]
        for process in processes:
            process.wait_until_ready()
        for number in range(rounds + 1):
            for process in processes:
                took = process.step()["total"]
                told = f"step {number} of {rounds}" if number else "warm-up"
                print(
                    f"  {told}: {process.side.name}: {took['cpu']:.2f} CPU s, {took['wall']:.2f} s",
                    flush=True,
                )
        return {process.side.name: process.end() for process in processes}


def environment(threads: int, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a side is started with: so many threads, and the same allocator as all."""
    held = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    return dict(os.environ if base is None else base) | ALLOCATOR | held


def ours(threads: int, tree: Path = TREE) -> dict[str, str]:
    """Return the same for a process that runs the trainer of a tree, whichever is installed."""
    return environment(threads) | {"PYTHONPATH": str(tree / "trainer")}


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # noqa: S101 - both are asked for
    return pipe
