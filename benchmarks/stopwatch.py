"""Times the stages of a step, in CPU and wall seconds, and keeps two processes from overlapping.

Each side of a comparison is a process of its own. It says when it is ready, then takes a step each
time it is told to, and says what the step took. Nothing of ours is imported here: the peer's
process runs it too.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TextIO

MARK = "@bench "
"""Begins the lines that are meant for whoever started the process."""
READY, STEP, END = "ready", "step", "end"

Seconds = dict[str, float]
"""`cpu` and `wall`."""
Stages = dict[str, Seconds]
"""By stage; `total` is all of the step, and `other` what no stage has."""

_RESET_PEAK = "5"
"""What makes Linux forget how much memory a process has had."""


def _now() -> Seconds:
    return {"cpu": time.process_time(), "wall": time.perf_counter()}


class Stopwatch:
    """Adds up what stages take between the beginning and the end of a step."""

    def __init__(self, now: Callable[[], Seconds] = _now) -> None:
        self._now = now
        self._stages: Stages = {}
        self._began = now()

    def begin(self) -> None:
        """Begin a step."""
        gc.collect()  # what the step before has left is not this one's to clear away
        self._stages, self._began = {}, self._now()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; stages of one name add up."""
        began = self._now()
        try:
            yield
        finally:
            took, known = self._since(began), self._stages.get(name, {})
            self._stages[name] = {kind: took[kind] + known.get(kind, 0.0) for kind in took}

    def end(self) -> Stages:
        """Return what the step took."""
        total = self._since(self._began)
        told = {
            kind: seconds - sum(stage[kind] for stage in self._stages.values())
            for kind, seconds in total.items()
        }
        return self._stages | {"other": told, "total": total}

    def _since(self, began: Seconds) -> Seconds:
        now = self._now()
        return {kind: now[kind] - began[kind] for kind in now}


class EnoughError(Exception):
    """All steps that were asked for have been taken."""


class Pace:
    """This process's side of taking turns; on its own it takes so many steps in a row."""

    def __init__(self, steps: int, *, paced: bool, told: TextIO | None = None) -> None:
        self._steps, self._paced = steps, paced
        self._told = told or sys.stdin
        self.done: list[Stages] = []

    def ready(self) -> bool:
        """Say that all is set up, and wait for the first turn; return whether it came."""
        forget_peak_memory()
        self.say({"what": READY})
        return self._next()

    def finish(self, stages: Stages, facts: dict[str, Any]) -> bool:
        """Say what a step took, and wait for the next turn; return whether it came."""
        self.done.append(stages)
        self.say({"what": STEP, "stages": stages, "peakBytes": peak_memory()} | facts)
        return self._next()

    def _next(self) -> bool:
        if self._paced:
            return self._told.readline().strip() == STEP
        return len(self.done) < self._steps

    def say(self, message: dict[str, Any]) -> None:
        """Tell whoever has started the process something."""
        print(MARK + json.dumps(message), flush=True)


def summary(steps: list[Stages]) -> dict[str, Any]:
    """Return the median and the best of each stage, without the first step if there are others."""
    counted = steps[1:] or steps
    names = {name: None for step in counted for name in step}
    return {
        how: {
            name: {
                kind: round(pick([step[name][kind] for step in counted if name in step]), 4)
                for kind in ("cpu", "wall")
            }
            for name in names
        }
        for how, pick in (("median", median), ("best", min))
    }


def forget_peak_memory() -> None:
    """Let the peak start anew, where Linux allows it."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def peak_memory() -> int:
    """Return the most resident memory since it was last forgotten, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def allocator_settings() -> dict[str, str]:
    """Return the variables of the environment that decide how memory is taken."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith("MALLOC_")}
