"""What a phase is given, what it gives back, and how it finds the phases before it."""

from dataclasses import dataclass, field
from pathlib import Path

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.contract import AttemptPaths, Hardware, Outcome, Phase, Result, Workspace
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.errors import InvalidError, PreemptedError
from rlhf_trainer.telemetry.telemetry import Telemetry


class Preemption:
    """Whether SIGTERM has arrived; phases ask at step boundaries."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, *_: object) -> None:
        """Note the request: usable as a signal handler."""
        self.requested = True


def source_in(data_root: Path, name: str) -> str:
    """Return the folder below the data root that `name` names, or `name` as a hub id."""
    folder = data_root / name
    return str(folder) if folder.exists() else name


@dataclass(frozen=True)
class PhaseReport:
    """What a completed phase says about itself."""

    message: str
    metrics: dict[str, float]
    step: int = 0
    model_path: Path | None = None
    certified_step: int | None = None


@dataclass(frozen=True)
class PhaseContext:
    """Everything a phase is given."""

    config: TrainingConfig
    workspace: Workspace
    data_root: Path
    phase: Phase
    iteration: int
    attempt: int
    telemetry: Telemetry
    preemption: Preemption = field(default_factory=Preemption)
    hardware: Hardware | None = None
    """Where the phases run, if Preparation is told."""

    @property
    def paths(self) -> AttemptPaths:
        """Where this attempt writes."""
        return self.workspace.attempt(self.iteration, self.phase, self.attempt)

    def source(self, name: str) -> str:
        """Return the folder below the data root that `name` names, or `name` as a hub id."""
        return source_in(self.data_root, name)

    def completed(self, phase: Phase) -> AttemptPaths:
        """Return the newest completed attempt at an earlier phase.

        Raises:
            InvalidError: the phase has not completed in this workspace.
        """
        folder = self.workspace.phase(self.iteration, phase)
        numbers = sorted(
            (int(path.name.removeprefix("attempt-")) for path in folder.glob("attempt-*")),
            reverse=True,
        )
        for number in numbers:
            paths = self.workspace.attempt(self.iteration, phase, number)
            if paths.result.exists():
                result = Result.from_json(paths.result.read_text(encoding="utf-8"))
                if result.outcome is Outcome.COMPLETED:
                    return paths
        raise InvalidError("workspace", folder, f"{phase.value} has not completed", "run it first")

    def prepared(self) -> PreparedData:
        """Return the tokenised data that Preparation left."""
        return PreparedData(self.completed(Phase.PREPARATION).data)

    def sft_model(self) -> Path:
        """Return the folder of the SFT model: the reference of everything after it."""
        if self.config.sft.from_ is not None:
            return self.data_root / self.config.sft.from_.path
        return self.completed(Phase.SFT).model

    def reward_model(self) -> Path:
        """Return the folder of the reward model."""
        if self.config.reward_model.from_ is not None:
            return self.data_root / self.config.reward_model.from_.path
        return self.completed(Phase.REWARD_MODEL).model

    @property
    def reward_model_config(self) -> ModelConfig:
        """How the reward model, and the critic that starts from it, are held."""
        return self.config.reward_model.model or self.config.model

    def stop_if_preempted(self) -> None:
        """End a phase that saves nothing on the way, if it has been asked to end.

        Raises:
            PreemptedError: SIGTERM has arrived.
        """
        if self.preemption.requested:
            raise PreemptedError("preempted: asked to end, and did before it was complete")
