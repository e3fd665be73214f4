"""Signs of life while a folder grows, and none while it does not."""

from pathlib import Path
from queue import Empty, Queue

import pytest

from rlhf_trainer.engine.growing import beating_while_growing

SOON = 0.01


def test_folder_that_grows_gives_signs_of_life(tmp_path: Path) -> None:
    beats = Queue[str]()
    with (
        beating_while_growing(tmp_path, lambda: beats.put("beat"), every_seconds=SOON),
        (tmp_path / "part.pt").open("wb", buffering=0) as file,
    ):
        for _ in range(3):
            file.write(b"\0" * 1000)
            assert beats.get(timeout=60) == "beat"


def test_folder_that_stands_still_gives_none(tmp_path: Path) -> None:
    (tmp_path / "part.pt").write_bytes(b"\0" * 1000)
    beats = Queue[str]()
    with beating_while_growing(tmp_path, lambda: beats.put("beat"), every_seconds=SOON):
        (tmp_path / "last.pt").write_bytes(b"\0")
        assert beats.get(timeout=60) == "beat", "the watch is on"
        with pytest.raises(Empty):
            beats.get(timeout=50 * SOON)


def test_sign_that_cannot_be_given_does_not_end_the_watch(tmp_path: Path) -> None:
    tried = Queue[int]()

    def beat() -> None:
        tried.put(1)
        message = "No space left on device"
        raise OSError(message)

    with beating_while_growing(tmp_path, beat, every_seconds=SOON):
        for number in range(2):
            (tmp_path / f"part-{number}.pt").write_bytes(b"\0" * 1000)
            assert tried.get(timeout=60) == 1
