"""What is wrong with data, as lines that say where, what and how to mend it.

Collected, so that a file with many faults shows its first ones in one go. What ends a phase and
what is only reported is decided by callers.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from rlhf_trainer.errors import InvalidError

PROBLEMS_KEPT = 20
"""Problems of one data set that are told in full; the rest is counted."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 3
_SHORT.maxlevel = 3


def shortened(value: object) -> str:
    """Return the `repr` of `value`, its middle left out where it is long."""
    return _SHORT.repr(value)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault; as a string it reads `place=value: problem; fix`."""

    place: str
    """Where: `file:line field`, `file[row] field` or a field of the manifest."""
    value: str
    """What stands there, shortened."""
    problem: str
    fix: str

    @override
    def __str__(self) -> str:
        return f"{self.place}={self.value}: {self.problem}; {self.fix}"

    @classmethod
    def from_error(cls, error: InvalidError) -> "Problem":
        """Return the problem that `error` tells."""
        return cls(error.place, str(error.value), error.problem, error.fix)


class Problems:
    """The first problems of one data set in full, and how many there are in all."""

    def __init__(self, setting: str) -> None:
        self._setting = setting
        self._kept: list[Problem] = []
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, problem: Problem) -> None:
        """Note a problem."""
        self._total += 1
        if len(self._kept) < PROBLEMS_KEPT:
            self._kept.append(problem)

    def told(self) -> list[Problem]:
        """Return the problems to tell, as found; the last one counts those left out."""
        left_out = self._total - len(self._kept)
        if not left_out:
            return list(self._kept)
        rest = Problem(
            self._setting,
            f"{self._total} problems",
            f"{left_out} more are not listed",
            "mend these first",
        )
        return [*self._kept, rest]


def invalid(problems: Sequence[Problem]) -> InvalidError:
    """Return the error that tells the first of `problems`, one line each; there must be one.

    It becomes a termination message, of which the kubelet keeps 4096 bytes.
    """
    first, *others = problems[:PROBLEMS_KEPT]
    lines = [first.fix, *map(str, others)]
    if (left_out := len(problems) - PROBLEMS_KEPT) > 0:
        lines.append(f"and {left_out} more problems")
    return InvalidError(first.place, first.value, first.problem, "\n".join(lines))
