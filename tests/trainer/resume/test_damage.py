"""A checkpoint that was damaged on the disk: said, and the one before it is used."""

import re
from pathlib import Path

import pytest
from launching import Launching
from resuming import newest_checkpoint, resume_config, weights

from rlhf_trainer.contract import Phase, ResumedFrom
from rlhf_trainer.engine.manifest import entries, files_of, write_manifest


@pytest.fixture(scope="module")
def launching(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    made = Launching(toy_data, tmp_path_factory.mktemp("damage") / "run")
    for phase in (Phase.PREPARATION, Phase.SFT):
        assert made.run(phase, resume_config(0)).code == 0
    return made


@pytest.mark.fault(
    "a checkpoint is damaged",
    "a line names it; the one before it is used",
)
def test_damaged_checkpoint_is_said_and_the_one_before_it_is_used(launching: Launching) -> None:
    copy = launching.beside(Phase.SFT)
    first = copy.run(Phase.SFT, resume_config(0))
    newest = newest_checkpoint(first.paths)
    assert newest is not None
    part = next((first.paths.checkpoint(newest) / "engines").rglob("*.pt"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    second = copy.run(Phase.SFT, resume_config(0), attempt=2)
    assert second.code == 0, second.output[-3000:]
    said = rf"checkpoint of step {newest}, attempt 1, is not used: .* checksum differs"
    assert re.search(said, second.output)
    record = ResumedFrom.model_validate_json(second.paths.resumed_from.read_text("utf-8"))
    assert 0 < record.step < newest
    assert weights(second.paths.model) == weights(first.paths.model)


@pytest.mark.fault(
    "a checkpoint holds code",
    "the phase ends and says so; nothing of it runs",
)
def test_code_in_a_checkpoint_is_not_run(launching: Launching, tmp_path: Path) -> None:
    """Whoever can write to the volume must not be able to run something by it."""
    copy = launching.beside(Phase.SFT)
    first = copy.run(Phase.SFT, resume_config(0))
    newest = newest_checkpoint(first.paths)
    assert newest is not None
    folder, witness = first.paths.checkpoint(newest), tmp_path / "witness"
    part = next((folder / "engines").rglob("*.pt"))
    part.write_bytes(b"cposix\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.")
    forge_manifest(folder)
    second = copy.run(Phase.SFT, resume_config(0), attempt=2)
    assert second.code == 1, second.output[-3000:]
    assert not witness.exists()


def forge_manifest(folder: Path) -> None:
    write_manifest(folder, entries(folder, files_of(folder)))
