"""Which checkpoint an attempt goes on from, with folders made by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_trainer.contract import AttemptPaths, Phase, ResumedFrom, Workspace
from rlhf_trainer.engine.lineage import (
    Candidate,
    candidates,
    pick,
    read_record,
    remove_predecessors,
    take_over,
    write_record,
)
from rlhf_trainer.engine.manifest import entries, files_of, flaw, write_manifest

Attempts = Callable[[int], AttemptPaths]

ANEW = ResumedFrom()


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return lambda number: Workspace(tmp_path).attempt(1, Phase.PPO, number)


def make(paths: AttemptPaths, *steps: int, resumed: ResumedFrom | None = ANEW) -> None:
    """Make an attempt that has written checkpoints."""
    paths.root.mkdir(parents=True, exist_ok=True)
    if resumed is not None:
        write_record(paths, resumed)
    for step in steps:
        folder = paths.checkpoint(step)
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(f"{step} of {paths.root.name}", encoding="utf-8")
        (folder / "engine").mkdir()
        (folder / "engine" / "part.pt").write_bytes(bytes(range(256)) * step)
        write_manifest(folder, entries(folder, files_of(folder)))


def steps(attempts: Attempts, attempt: int) -> list[tuple[int, int]]:
    return [(found.attempt, found.step) for found in candidates(attempts, attempt)]


def picked(
    attempts: Attempts, attempt: int, note: Callable[[str], None] = print
) -> Candidate | None:
    return pick(candidates(attempts, attempt), flaw, note)


def test_first_attempt_begins_anew(attempts: Attempts) -> None:
    assert picked(attempts, 1) is None


def test_newest_checkpoint_of_the_predecessor_is_picked(attempts: Attempts) -> None:
    make(attempts(1), 2, 4, 10)
    found = picked(attempts, 2)
    assert found is not None
    assert (found.attempt, found.step) == (1, 10)


def test_predecessor_without_a_checkpoint_hands_on_what_it_went_on_from(attempts: Attempts) -> None:
    make(attempts(1), 2, 4)
    make(attempts(2), resumed=ResumedFrom(attempt=1, step=4))
    assert steps(attempts, 3) == [(1, 4), (1, 2)]


def test_later_checkpoints_of_an_attempt_that_lives_on_unseen_never_count(
    attempts: Attempts,
) -> None:
    make(attempts(1), 2, 4, 6, 8)
    make(attempts(2), 5, resumed=ResumedFrom(attempt=1, step=4))
    assert steps(attempts, 3) == [(2, 5), (1, 4), (1, 2)]


def test_predecessor_that_began_anew_ends_the_line(attempts: Attempts) -> None:
    make(attempts(1), 2, 4)
    make(attempts(2))
    assert steps(attempts, 3) == []


def test_predecessor_that_died_before_it_could_pick_is_passed_over(attempts: Attempts) -> None:
    make(attempts(1), 2)
    make(attempts(2), resumed=None)
    assert steps(attempts, 3) == [(1, 2)]


def test_record_that_names_itself_ends_the_line(attempts: Attempts) -> None:
    make(attempts(1), 2, resumed=ResumedFrom(attempt=1, step=2))
    assert steps(attempts, 2) == [(1, 2)]


def test_half_written_checkpoint_has_no_name_yet(attempts: Attempts) -> None:
    make(attempts(1), 2)
    (attempts(1).checkpoints / ".step-4.partial").mkdir()
    assert steps(attempts, 2) == [(1, 2)]


def truncate(folder: Path) -> None:
    (folder / "engine" / "part.pt").write_bytes(b"\0" * 7)


def flip(folder: Path) -> None:
    path = folder / "engine" / "part.pt"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def lose(folder: Path) -> None:
    (folder / "engine" / "part.pt").unlink()


def unlist(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def tear(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text("utf-8")[:-9], encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "engine/part.pt has 7 bytes and not 1024"),
        (flip, "its checksum differs"),
        (lose, "engine/part.pt cannot be read: No such file"),
        (unlist, "it has no manifest"),
        (tear, "its manifest cannot be read"),
    ],
    ids=["truncated", "flipped-bit", "lost-file", "no-manifest", "torn-manifest"],
)
def test_damaged_checkpoint_is_named_and_the_one_before_it_is_picked(
    attempts: Attempts, damage: Callable[[Path], None], said: str
) -> None:
    make(attempts(1), 2, 4)
    damage(attempts(1).checkpoint(4))
    notes: list[str] = []
    found = picked(attempts, 2, notes.append)
    assert found is not None
    assert found.step == 2
    assert len(notes) == 1
    assert notes[0].startswith("checkpoint of step 4, attempt 1, is not used: ")
    assert said in notes[0]


def test_flaw_of_what_does_not_matter_is_none(attempts: Attempts) -> None:
    make(attempts(1), 2)
    folder = attempts(1).checkpoint(2)
    flip(folder)
    assert flaw(folder) is not None
    assert flaw(folder, ignore=("engine", "generators-*.pt")) is None
    assert flaw(folder, ignore=("state.*",)) is not None


def test_taken_over_checkpoint_outlives_its_maker(attempts: Attempts) -> None:
    make(attempts(1), 2, 4)
    make(attempts(2), resumed=None)
    take_over(attempts(1).checkpoint(4), attempts(2).checkpoint(4))
    remove_predecessors(attempts, 2)
    assert not attempts(1).checkpoints.exists()
    found = picked(attempts, 3)
    assert found is not None
    assert (found.attempt, found.step) == (2, 4)
    assert (found.path / "state.json").read_text("utf-8") == "4 of attempt-1"


def test_volume_without_hard_links_gets_copies(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    make(attempts(1), 2)
    monkeypatch.setattr("rlhf_trainer.engine.lineage.os.link", refuse)
    take_over(attempts(1).checkpoint(2), attempts(2).checkpoint(2))
    ours = attempts(2).checkpoint(2) / "state.json"
    assert ours.stat().st_ino != (attempts(1).checkpoint(2) / "state.json").stat().st_ino
    assert picked(attempts, 3) is not None


def test_record_is_read_as_it_was_written(attempts: Attempts) -> None:
    make(attempts(1), resumed=None)
    assert read_record(attempts(1)) is None
    write_record(attempts(1), ResumedFrom(attempt=7, step=3))
    assert read_record(attempts(1)) == ResumedFrom(attempt=7, step=3)
