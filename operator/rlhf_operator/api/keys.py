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

    def job_name(self, run: str) -> str:
        """Return the name of the attempt's job in a cluster: the same for the same attempt."""
        return f"{run}-i{self.iteration}-{self.phase.slug}-a{self.attempt}"
