"""How a phase ended: outcomes, their exit codes, and the result that carries them.

The launcher turns the outcomes of all ranks into one exit code and one result; the operator and
`rlhf run` read both. What to do about an outcome is not decided here.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from rlhf_trainer.contract.phases import Phase

MAXIMUM_RESULT_BYTES = 4096
"""The kubelet keeps this much of a termination message."""


class Outcome(StrEnum):
    """How a rank, or a phase as a whole, ended."""

    COMPLETED = "Completed"
    """The phase did all its work."""
    STOPPED = "Stopped"
    """The guard stopped training; the last certified policy was exported."""
    GATE_FAILED = "GateFailed"
    """Agreement, accuracy or win rate is below its gate."""
    INVALID = "Invalid"
    """The configuration or the data cannot be used; the message names place, value and fix."""
    OUT_OF_MEMORY = "OutOfMemory"
    """An allocation failed on the accelerator or in the process."""
    DIVERGED = "Diverged"
    """A loss, KL or reward is not finite."""
    PREEMPTED = "Preempted"
    """SIGTERM arrived; the phase was saved at a step boundary if time allowed."""
    CRASHED = "Crashed"
    """The process ended in any other way; its own exit code is kept where it is known."""

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ended so; a crash's own code is kept where it is known."""
        return _EXIT_CODES[self]

    @classmethod
    def from_exit_code(cls, code: int) -> "Outcome":
        """Return the outcome that a process's exit code stands for; unknown codes are crashes."""
        return next(
            (outcome for outcome, known in _EXIT_CODES.items() if known == code), cls.CRASHED
        )


_EXIT_CODES = {
    Outcome.COMPLETED: 0,
    Outcome.STOPPED: 10,
    Outcome.GATE_FAILED: 11,
    Outcome.INVALID: 20,
    Outcome.OUT_OF_MEMORY: 21,
    Outcome.DIVERGED: 30,
    Outcome.PREEMPTED: 143,
    Outcome.CRASHED: 1,
}

MAIN_RANK_FAILED = "MainRankFailed"
"""Reason of ranks that only say that another one has failed, which says why."""

PRECEDENCE = (
    Outcome.INVALID,
    Outcome.OUT_OF_MEMORY,
    Outcome.DIVERGED,
    Outcome.STOPPED,
    Outcome.GATE_FAILED,
    Outcome.CRASHED,
    Outcome.PREEMPTED,
    Outcome.COMPLETED,
)
"""Which of several outcomes stands for the phase: the first in this list.

torchrun ends the siblings of a failed rank by SIGTERM, so a rank's own verdict goes before a crash,
and a crash before a preemption.
"""


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that stands for all ranks; no outcome at all is a crash."""
    seen = set(outcomes)
    return next((outcome for outcome in PRECEDENCE if outcome in seen), Outcome.CRASHED)


class Result(BaseModel):
    """`result.json` and the termination message: how a phase ended, for programs and people."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",  # JSON has no other spelling for them
    )

    phase: Phase
    outcome: Outcome
    message: str
    """One sentence for people: cause, value and limit, and what to do."""
    reason: str = ""
    """CamelCase cause of a stop or failed gate, such as KLLimitExceeded."""
    step: int = 0
    """Completed updates."""
    checkpoint_step: int | None = None
    """Newest complete checkpoint: an attempt that brought one got further."""
    certified_step: int | None = None
    """Newest step whose policy was measured inside the KL limit (PPO)."""
    model_path: str | None = None
    """Folder of the exported model, below the run's root."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Headline numbers, camelCase with units."""
    duration_seconds: float = 0.0

    def to_json(self) -> str:
        """Return JSON of at most `MAXIMUM_RESULT_BYTES` bytes; a long message loses its end."""
        return _shortened(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            pydantic.ValidationError: the text is not a result.
        """
        return cls.model_validate_json(text)


def _shortened(result: Result) -> str:
    text = result.model_dump_json(by_alias=True)
    excess = len(text.encode()) - MAXIMUM_RESULT_BYTES
    if excess <= 0:
        return text
    kept = (
        result.message.encode()[: -(excess + 8)].decode(errors="ignore") if result.message else ""
    )
    if not kept:
        return _shortened(
            result.model_copy(update={"metrics": {}, "message": result.message[:1000]})
        )
    return _shortened(result.model_copy(update={"message": kept.rstrip() + "…"}))
