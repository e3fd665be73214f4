"""A checkpoint that was damaged on the disk: said, and the one before it is used."""

import re
import shutil
from pathlib import Path

import pytest
from launching import Launching
from one_start import Case, run_in_one_start
from resuming import newest_checkpoint, resume_config, weights

from rlhf_trainer.contract import Phase, ResumedFrom, Workspace
from rlhf_trainer.engine.manifest import entries, files_of, write_manifest

CODE = b"cposix\nsystem\n(S'touch %s'\ntR."


class Damaged:
    """Two copies of an attempt, one with a flipped bit and one with code, and their successors."""

    def __init__(self, data: Path, folder: Path) -> None:
        whole, config = Launching(data, folder / "run"), resume_config(0)
        phases = (Phase.PREPARATION, Phase.SFT)
        *_, self.first = run_in_one_start([Case(whole, one, config) for one in phases], folder)
        assert self.first.code == 0, self.first.output[-3000:]
        self.newest = newest_checkpoint(self.first.paths) or 0
        self.witness = folder / "witness"
        places = [whole.beside(Phase.SFT) for _ in range(2)]
        for place, damage in zip(places, (self._flip_a_bit, self._put_code), strict=True):
            paths = Workspace(place.workspace).attempt(1, Phase.SFT, 1)
            shutil.copytree(self.first.paths.root, paths.root)
            damage(paths.checkpoint(self.newest))
        cases = [Case(place, Phase.SFT, config, attempt=2) for place in places]
        self.flipped, self.coded = run_in_one_start(cases, folder)

    def _flip_a_bit(self, checkpoint: Path) -> None:
        part = next((checkpoint / "engines").rglob("*.pt"))
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)

    def _put_code(self, checkpoint: Path) -> None:
        part = next((checkpoint / "engines").rglob("*.pt"))
        part.write_bytes(CODE % str(self.witness).encode())
        write_manifest(checkpoint, entries(checkpoint, files_of(checkpoint)))


@pytest.fixture(scope="module")
def damaged(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(toy_data, tmp_path_factory.mktemp("damage"))


@pytest.mark.fault(
    "a checkpoint is damaged",
    "a line names it; the one before it is used",
)
def test_damaged_checkpoint_is_said_and_the_one_before_it_is_used(damaged: Damaged) -> None:
    second = damaged.flipped
    assert second.code == 0, second.output[-3000:]
    said = rf"checkpoint of step {damaged.newest}, attempt 1, is not used: .* checksum differs"
    assert re.search(said, second.output)
    record = ResumedFrom.model_validate_json(second.paths.resumed_from.read_text("utf-8"))
    assert 0 < record.step < damaged.newest
    assert weights(second.paths.model) == weights(damaged.first.paths.model)


@pytest.mark.fault(
    "a checkpoint holds code",
    "the phase ends and says so; nothing of it runs",
)
def test_code_in_a_checkpoint_is_not_run(damaged: Damaged) -> None:
    """Whoever can write to the volume must not be able to run something by it."""
    assert damaged.coded.code == 1, damaged.coded.output[-3000:]
    assert not damaged.witness.exists()
