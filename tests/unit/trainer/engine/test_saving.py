"""A folder that is saved gives signs of life: while it is written, and while it is read again."""

from functools import partial
from pathlib import Path
from queue import Queue

import pytest

from rlhf_trainer.engine import saving
from rlhf_trainer.engine.growing import beating_while_growing
from rlhf_trainer.engine.manifest import BLOCK_BYTES, flaw
from rlhf_trainer.engine.saving import copy_model, save_folder


def test_save_folder_beats_for_each_file_and_each_block_of_it(tmp_path: Path) -> None:
    beats: list[str] = []

    def add(folder: Path) -> None:
        (folder / "small.json").write_text("{}", encoding="utf-8")
        with (folder / "large.safetensors").open("wb") as file:
            file.truncate(2 * BLOCK_BYTES + 1)
        assert beats == []

    save_folder(tmp_path / "model", add, lambda: beats.append("beat"))
    assert len(beats) == 2 + 1 + 3
    assert flaw(tmp_path / "model") is None


def test_save_folder_beats_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Queue[str]()
    often = partial(beating_while_growing, every_seconds=0.01)
    monkeypatch.setattr(saving, "beating_while_growing", often)

    def add(folder: Path) -> None:
        (folder / "part.safetensors").write_bytes(b"\0" * 1000)
        assert beats.get(timeout=60) == "beat"

    save_folder(tmp_path / "model", add, lambda: beats.put("beat"))


def test_copy_model_beats(tmp_path: Path) -> None:
    beats: list[str] = []
    save_folder(tmp_path / "from", lambda folder: (folder / "a").write_bytes(b"a"), list)
    copy_model(tmp_path / "from", tmp_path / "to", lambda: beats.append("beat"))
    assert beats
    assert flaw(tmp_path / "to") is None
