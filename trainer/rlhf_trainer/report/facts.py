"""What is known about a run: the material that a report is made of.

Everything may be missing: a run that was killed is exactly what a report is for. How it is read is
left to `reading`, how it is told to `story`, `curves` and `page`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import HistoryRecord, Outcome, Phase, Progress, Result


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class Sample(_Part):
    """Two responses to one prompt, and what the judge makes of them."""

    prompt: str
    sft: str
    ppo: str
    sft_score: float
    ppo_score: float


class PhaseStatus(_Part):
    """What `run.json` says of one phase."""

    iteration: int
    phase: Phase
    state: str = ""
    attempts: int = 0
    last_failure: str = ""


class StopStatus(_Part):
    """Why the run ended before its time."""

    message: str = ""
    phase: Phase | None = None


class RunStatus(_Part):
    """What `run.json` says of the run."""

    outcome: str | None = None
    start_time: str | None = None
    stop: StopStatus | None = None
    phases: tuple[PhaseStatus, ...] = ()

    def phase(self, iteration: int, phase: Phase) -> PhaseStatus | None:
        """Return what it says of one phase."""
        wanted = (iteration, phase)
        return next((one for one in self.phases if (one.iteration, one.phase) == wanted), None)


class Metadata(_Part):
    """What a run is called."""

    name: str = ""


class RunFile(_Part):
    """`run.json`: the RLHFRun as `rlhf run` keeps it."""

    metadata: Metadata = Metadata()
    spec: dict[str, JsonValue] = Field(default_factory=dict)
    status: RunStatus = RunStatus()


@dataclass(frozen=True)
class PhaseFacts:
    """All attempts at one phase of one iteration."""

    phase: Phase
    status: PhaseStatus | None = None
    attempts: int = 0
    """Attempts that left a folder."""
    result: Result | None = None
    """Of the newest attempt, if that has ended."""
    duration_seconds: float = 0.0
    """Of all attempts that ended."""
    history: tuple[HistoryRecord, ...] = ()
    """Of all attempts; where a later one began again, its records hold."""
    progress: Progress | None = None
    log: Path | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How the newest attempt ended."""
        return self.result.outcome if self.result else None

    def points(self, series: str) -> list[tuple[int, float]]:
        """Return step and value of every record that holds the series."""
        records = (record for record in self.history if series in record.values)
        return [(record.step, record.values[series]) for record in records]

    def last(self, series: str) -> float | None:
        """Return the newest value of a series."""
        points = self.points(series)
        return points[-1][1] if points else None


@dataclass(frozen=True)
class RunFacts:
    """Everything a report is made of."""

    name: str
    workspace: Path
    iteration: int = 1
    phases: tuple[PhaseFacts, ...] = ()
    """Of the newest iteration, in the order in which they run; only those that were begun."""
    status: RunStatus = field(default_factory=RunStatus)
    config: TrainingConfig | None = None
    shown_config: Mapping[str, JsonValue] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()

    def phase(self, phase: Phase) -> PhaseFacts | None:
        """Return what is known of one phase, if it was begun."""
        return next((facts for facts in self.phases if facts.phase is phase), None)
