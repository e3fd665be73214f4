"""Which checkpoints an attempt takes over: with folders made by hand, and no engine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import AttemptPaths, Phase, Workspace
from rlhf_trainer.engine.manifest import entries, files_of, write_manifest
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.ppo import _PPO
from rlhf_trainer.phases.recovery import STATE, PhaseState, Recovery
from rlhf_trainer.telemetry.telemetry import SilentTelemetry

CERTIFIED, NEWEST = 2, 6
ONE_RANK = Ranks(0, 1, torch.device("cpu"))


@dataclass
class Notes(SilentTelemetry):
    """Telemetry that keeps what was told."""

    told: list[str] = field(default_factory=list)

    @override
    def note(self, text: str) -> None:
        self.told.append(text)


def checkpoint(paths: AttemptPaths, step: int) -> Path:
    """Make a checkpoint that names the certified one."""
    folder = paths.checkpoint(step)
    folder.mkdir(parents=True)
    state = PhaseState(step=step, certified_step=CERTIFIED)
    (folder / STATE).write_text(state.model_dump_json(by_alias=True), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "engines").mkdir()
    (folder / "engines" / "states.pt").write_bytes(bytes(range(256)))
    write_manifest(folder, entries(folder, files_of(folder)))
    return folder


def flip(file: Path) -> None:
    """Change one bit of a file."""
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def context(workspace: Path, attempt: int) -> PhaseContext:
    source: dict[str, Any] = {"path": "a.jsonl"}
    data = {"demonstrations": source, "comparisons": source, "prompts": source}
    config = TrainingConfig.model_validate({"model": {"source": "m"}, "data": data})
    found = PhaseContext(
        config, Workspace(workspace), workspace, Phase.PPO, 1, attempt, telemetry=Notes()
    )
    found.paths.root.mkdir(parents=True, exist_ok=True)
    return found


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_only_a_whole_certified_checkpoint_is_taken_over(
    tmp_path: Path, *, is_damaged: bool
) -> None:
    first = context(tmp_path, 1)
    certified = checkpoint(first.paths, CERTIFIED)
    checkpoint(first.paths, NEWEST)
    if is_damaged:
        flip(certified / "model.safetensors")
    second = context(tmp_path, 2)
    recovery = Recovery(second, ONE_RANK, {})
    assert (recovery.resumed_from.attempt, recovery.resumed_from.step) == (1, NEWEST)
    assert recovery.checkpoints.certified_step == (0 if is_damaged else CERTIFIED)
    assert second.paths.checkpoint(CERTIFIED).exists() is not is_damaged
    assert isinstance(second.telemetry, Notes)
    told = "checkpoint of step 2, attempt 1, is not used: model.safetensors is not what was written"
    assert any(note.startswith(told) for note in second.telemetry.told) is is_damaged


def test_attempt_that_is_started_again_goes_on_from_what_it_had_picked(tmp_path: Path) -> None:
    first, second = context(tmp_path, 1), context(tmp_path, 2)
    checkpoint(first.paths, CERTIFIED)
    checkpoint(first.paths, NEWEST)
    picked = Recovery(second, ONE_RANK, {}).resumed_from
    checkpoint(first.paths, NEWEST + 1)
    again = Recovery(second, ONE_RANK, {})
    assert again.resumed_from == picked
    assert again.checkpoints.certified_step == CERTIFIED


@pytest.mark.parametrize(
    ("damaged", "exported"),
    [
        pytest.param("engines/states.pt", CERTIFIED, id="what-is-not-exported"),
        pytest.param("model.safetensors", 0, id="the-policy"),
    ],
)
def test_policy_that_was_damaged_since_it_was_certified_is_not_exported(
    tmp_path: Path, damaged: str, exported: int
) -> None:
    phase = object.__new__(_PPO)  # of all it has, what it exports by
    phase.context = context(tmp_path, 1)
    phase.telemetry = phase.context.telemetry
    phase.recovery = Recovery(phase.context, ONE_RANK, {})
    flip(checkpoint(phase.context.paths, CERTIFIED) / damaged)
    assert phase._whole(CERTIFIED) == exported
    assert isinstance(phase.telemetry, Notes)
    told = [note.partition(":")[0] for note in phase.telemetry.told]
    assert told == ([] if exported else ["the policy of step 2 is not exported"])
