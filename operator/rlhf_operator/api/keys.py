"""Names of a run, of a phase within it and of an attempt at a phase: the keys of everything."""

from typing import NamedTuple

from rlhf_trainer.contract import Phase


class RunKey(NamedTuple):
    """One run; `rlhf run` knows no namespaces and leaves it empty."""

    namespace: str
    name: str


class PhaseKey(NamedTuple):
    """One phase of one iteration of a run."""

    iteration: int
    phase: Phase


class AttemptKey(NamedTuple):
    """One attempt at a phase; attempts count from 1."""

    iteration: int
    phase: Phase
    attempt: int
