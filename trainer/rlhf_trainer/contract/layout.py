"""Where things lie in a run's workspace. Paths only: nothing here opens or creates a file.

An attempt writes only under its own directory; what it takes from elsewhere it only reads.
"""

from dataclasses import dataclass
from pathlib import Path

from rlhf_trainer.contract.hardware import HARDWARE_FILE
from rlhf_trainer.contract.phases import Phase


@dataclass(frozen=True)
class AttemptPaths:
    """Files of one attempt at one phase."""

    root: Path
    """`<run's root>/iteration-N/<phase>/attempt-M`."""

    @property
    def config(self) -> Path:
        """The trainer's configuration as this attempt was started with (`rlhf run` only)."""
        return self.root / "config.json"

    @property
    def hardware(self) -> Path:
        """Where the phases run, beside the configuration (`rlhf run`, Preparation only)."""
        return self.root / HARDWARE_FILE

    @property
    def checkpoints(self) -> Path:
        """Complete checkpoints, one `step-N` folder each."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint after `step` updates."""
        return self.checkpoints / f"step-{step}"

    @property
    def resumed_from(self) -> Path:
        """JSON that names the checkpoint which this attempt went on from."""
        return self.root / "resumed-from.json"

    @property
    def certified(self) -> Path:
        """JSON that names the newest certified checkpoint (PPO)."""
        return self.root / "certified.json"

    @property
    def model(self) -> Path:
        """The exported model, loadable by plain transformers."""
        return self.root / "model"

    @property
    def data(self) -> Path:
        """Tokenised data sets (Preparation)."""
        return self.root / "data"

    @property
    def history(self) -> Path:
        """One JSON line per step."""
        return self.root / "history.jsonl"

    @property
    def progress(self) -> Path:
        """How far the phase has come, for whoever draws a bar."""
        return self.root / "progress.json"

    @property
    def metrics_port(self) -> Path:
        """The port at which the attempt serves its metrics."""
        return self.root / "metrics-port"

    @property
    def samples(self) -> Path:
        """Responses side by side, one JSON line per prompt (Evaluation)."""
        return self.root / "samples.jsonl"

    @property
    def result(self) -> Path:
        """How the attempt ended; written once, by node rank 0."""
        return self.root / "result.json"

    @property
    def log(self) -> Path:
        """Output of the attempt's processes (`rlhf run` only)."""
        return self.root / "log.txt"

    def rank_outcome(self, rank: int) -> Path:
        """Return the file in which one rank says how it ended."""
        return self.root / f"outcome-{rank}.json"


@dataclass(frozen=True)
class Workspace:
    """A run's root folder."""

    root: Path

    def phase(self, iteration: int, phase: Phase) -> Path:
        """Return the folder of all attempts at a phase."""
        return self.root / f"iteration-{iteration}" / phase.slug

    def attempt(self, iteration: int, phase: Phase, attempt: int) -> AttemptPaths:
        """Return the paths of one attempt, which need not exist."""
        return AttemptPaths(self.phase(iteration, phase) / f"attempt-{attempt}")

    @property
    def run(self) -> Path:
        """Status store of `rlhf run`."""
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        """Held by the `rlhf run` that works here."""
        return self.root / "run.lock"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"
