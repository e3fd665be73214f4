from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.records import Message, Role
from rlhf_trainer.data.store import Demonstrations, Pairs, Prompts, Ragged, encode_turns
from rlhf_trainer.files import write_text

token_rows = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=6)


def ragged(*rows: list[int]) -> Ragged[np.int32]:
    return Ragged.of(rows, np.int32)


@given(token_rows)
def test_ragged_read_gives_the_rows_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("ragged")
    ragged(*rows).write(folder, "tokens")
    read: Ragged[np.int32] = Ragged.read(folder, "tokens")
    assert len(read) == len(rows)
    assert [read[index].tolist() for index in range(len(rows))] == rows
    assert read.lengths.tolist() == [len(row) for row in rows]
    assert read.values.dtype == np.int32


@pytest.mark.parametrize("index", [-1, 2])
def test_ragged_row_that_is_not_there_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} of 2"):
        ragged([1], [2])[index]


def test_ragged_is_mapped_not_loaded(tmp_path: Path) -> None:
    ragged([1, 2]).write(tmp_path, "tokens")
    read: Ragged[np.int32] = Ragged.read(tmp_path, "tokens")
    assert isinstance(read.values, np.memmap)


def test_ragged_refuses_pickles(tmp_path: Path) -> None:
    ragged([1]).write(tmp_path, "tokens")
    np.save(tmp_path / "tokens-offsets.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Ragged.read(tmp_path, "tokens")


def demonstrations(*rows: list[int]) -> Demonstrations:
    masks = [[0] + [1] * (len(row) - 1) for row in rows]
    return Demonstrations(ragged(*rows), Ragged.of(masks, np.uint8))


def test_demonstrations_come_back_as_writable_int64_and_bool(tmp_path: Path) -> None:
    demonstrations([5, 6, 7], [8, 9]).write(tmp_path / "d")
    read = Demonstrations.read(tmp_path / "d")
    assert len(read) == 2
    assert read.lengths.tolist() == [3, 2]
    item = read[0]
    assert (item.tokens.tolist(), item.response_mask.tolist()) == ([5, 6, 7], [False, True, True])
    assert item.tokens.dtype == np.int64
    assert item.response_mask.dtype == np.bool_
    # torch.from_numpy warns of arrays that it must not write through
    assert type(item.tokens) is np.ndarray
    assert item.tokens.flags.writeable
    assert item.response_mask.flags.writeable


def test_pairs_come_back_and_have_the_length_of_the_longer_side(tmp_path: Path) -> None:
    Pairs(ragged([1, 2, 3], [4]), ragged([1, 9], [4, 5])).write(tmp_path / "p")
    read = Pairs.read(tmp_path / "p")
    assert len(read) == 2
    assert read.lengths.tolist() == [3, 2]
    assert (read[1].chosen.tolist(), read[1].rejected.tolist()) == ([4], [4, 5])


def test_prompts_come_back_with_their_texts_and_turns(tmp_path: Path) -> None:
    turns = (Message(Role.SYSTEM, 'Be "brief"'), Message(Role.USER, "Été 🙂\n"))

    def column(*rows: bytes) -> Ragged[np.uint8]:
        return Ragged.of([np.frombuffer(row, np.uint8) for row in rows], np.uint8)

    texts = column(b"Once", b"", "Été 🙂\n".encode())
    kept = column(encode_turns("Once"), encode_turns(""), encode_turns(turns))
    Prompts(ragged([1], [2, 3], [4]), texts, kept).write(tmp_path / "p")
    read = Prompts.read(tmp_path / "p")
    items = [read[index] for index in range(len(read))]
    assert [(item.tokens.tolist(), item.text, item.turns) for item in items] == [
        ([1], "Once", ()),
        ([2, 3], "", ()),
        ([4], "Été 🙂\n", turns),
    ]


def test_write_replaces_a_folder_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "left-over").touch()
    demonstrations([1, 2]).write(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "response-mask-offsets.npy",
        "response-mask.npy",
        "tokens-offsets.npy",
        "tokens.npy",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_write_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    demonstrations([1, 2]).write(folder)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        demonstrations([3, 4]).write(folder)
    assert Demonstrations.read(folder)[0].tokens.tolist() == [1, 2]


def test_write_text_leaves_nothing_else_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "é")
    write_text(tmp_path / "a.json", "è")
    assert (tmp_path / "a.json").read_text("utf-8") == "è"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
