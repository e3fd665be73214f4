import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import datasets
import pyarrow as pa
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from pyarrow import parquet

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.data.problems import Problem
from rlhf_trainer.data.sources import Row, read_rows
from rlhf_trainer.errors import InvalidError, PhaseError, WorkspaceError

Jsonl = Callable[..., Path]


def rows(source: DatasetSource, data_root: Path) -> list[Row | Problem]:
    return list(read_rows(source, "spec.data.prompts", data_root))


def told(source: DatasetSource, data_root: Path) -> list[str]:
    return [str(item) for item in rows(source, data_root) if isinstance(item, Problem)]


def test_jsonl_rows_are_named_by_their_lines(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl("a.jsonl", {"prompt": "é"}, [1, 2])
    assert rows(DatasetSource(path="a.jsonl"), tmp_path) == [
        Row("a.jsonl:1", {"prompt": "é"}),
        Row("a.jsonl:2", [1, 2]),
    ]


def test_jsonl_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\n{"a": 1}\r\n  \r\n{"a": 2}')
    assert rows(DatasetSource(path="a.jsonl"), tmp_path) == [
        Row("a.jsonl:2", {"a": 1}),
        Row("a.jsonl:4", {"a": 2}),
    ]


def test_jsonl_line_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": text}, ensure_ascii=False), "utf-8")
    assert rows(DatasetSource(path="a.jsonl"), tmp_path) == [Row("a.jsonl:1", {"a": text})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            b'{"a": 1',
            "a.jsonl:2='{\"a\": 1': is not JSON: Expecting ',' delimiter at position 8; "
            "write one JSON object per line",
            id="not JSON",
        ),
        pytest.param(
            b'{"a": "caf\xe9"}',
            r"""a.jsonl:2=b'{"a": "caf\xe9"}\n': is not UTF-8: byte 0xe9 at position 11; """
            "save the file as UTF-8",
            id="Latin-1",
        ),
        pytest.param(b"[" * 100_000, "is nested too deeply; write a flat JSON object", id="deep"),
        pytest.param(b"1" * 5000, "is not JSON: Exceeds the limit", id="huge number"),
    ],
)
def test_jsonl_broken_line_is_told_and_the_next_one_read(
    tmp_path: Path, line: bytes, message: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 0}\n' + line + b'\n{"a": 2}\n')
    source = DatasetSource(path="a.jsonl")
    first, problem, third = rows(source, tmp_path)
    assert message in str(problem)
    assert (first, third) == (Row("a.jsonl:1", {"a": 0}), Row("a.jsonl:3", {"a": 2}))


def test_jsonl_with_byte_order_mark_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8-sig")
    source = DatasetSource(path="a.jsonl")
    (problem,) = told(source, tmp_path)
    assert problem.endswith("begins with a byte order mark; save the file as UTF-8 without")
    assert rows(source, tmp_path)[1:] == [Row("a.jsonl:2", {"a": 2})]


def test_jsonl_in_utf_16_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 9, encoding="utf-16")
    (problem,) = rows(DatasetSource(path="a.jsonl"), tmp_path)
    assert str(problem).endswith("is UTF-16, not UTF-8; save the file as UTF-8")


def test_absolute_path_needs_no_data_root(jsonl: Jsonl) -> None:
    path = jsonl("a.jsonl", {"a": 1})
    assert rows(DatasetSource(path=str(path)), Path("/nowhere")) == [Row(f"{path}:1", {"a": 1})]


def test_missing_path_names_the_data_root(tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as caught:
        rows(DatasetSource(path="b/a.jsonl"), tmp_path)
    assert str(caught.value) == (
        f"spec.data.prompts.path='b/a.jsonl': no such file or folder below the data root "
        f"{tmp_path}; "
        "correct the path, or make the file"
    )


def test_missing_absolute_path_names_no_data_root(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="no such file or folder; correct"):
        rows(DatasetSource(path=str(tmp_path / "a.jsonl")), Path("/nowhere"))


def test_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidError, match=r"^spec\.data\.prompts\.path='a+\.\.\.a+\.jsonl': cannot be"
    ):
        rows(DatasetSource(path="a" * 300 + ".jsonl"), tmp_path)


def test_path_in_a_closed_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_dir(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", is_dir)
    with pytest.raises(InvalidError, match=r"cannot be read: .*Permission denied.*; correct it"):
        rows(DatasetSource(path="closed/a.jsonl"), tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a"])
def test_unsupported_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a")
    with pytest.raises(InvalidError, match=r"not supported; convert it to \.jsonl or \.parquet"):
        rows(DatasetSource(path=name), tmp_path)


def test_folder_that_datasets_did_not_save_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidError, match="is a folder that `datasets` did not save"):
        rows(DatasetSource(path="folder"), tmp_path)


def test_parquet_rows_are_named_by_their_index(tmp_path: Path) -> None:

    values = [{"prompt": "a", "messages": [{"role": "user"}]}, {"prompt": None, "messages": []}]
    parquet.write_table(pa.Table.from_pylist(values), tmp_path / "a.parquet", row_group_size=1)
    assert rows(DatasetSource(path="a.parquet"), tmp_path) == [
        Row("a.parquet[0]", values[0]),
        Row("a.parquet[1]", values[1]),
    ]


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(
        InvalidError, match=r"spec\.data\.prompts\.path='a\.parquet': cannot be read"
    ):
        rows(DatasetSource(path="a.parquet"), tmp_path)


def test_parquet_with_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    offsets, text = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9")
    column = pa.StringArray.from_buffers(1, offsets, text)
    parquet.write_table(pa.table({"prompt": column}), tmp_path / "a.parquet")
    with pytest.raises(
        InvalidError, match=r"\.path='a\.parquet': cannot be read: 'utf-8' codec can't decode"
    ):
        rows(DatasetSource(path="a.parquet"), tmp_path)


@pytest.fixture
def saved_folder(tmp_path: Path) -> Path:

    train = datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}])
    test = datasets.Dataset.from_list([{"prompt": "c"}])
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both")
    train.save_to_disk(tmp_path / "one")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "split", "prompts"),
    [("both", "train", ["a", "b"]), ("both", "test", ["c"]), ("one", "train", ["a", "b"])],
)
def test_saved_folder_gives_the_rows_of_its_split(
    saved_folder: Path, path: str, split: str, prompts: list[str]
) -> None:
    source = DatasetSource(path=path, split=split)
    assert rows(source, saved_folder) == [
        Row(f"{path}[{index}]", {"prompt": prompt}) for index, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize(("path", "known"), [("both", "train, test"), ("one", "train")])
def test_saved_folder_without_the_split_names_those_it_has(
    saved_folder: Path, path: str, known: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        rows(DatasetSource(path=path, split="validation"), saved_folder)
    assert str(caught.value) == (
        f"spec.data.prompts.split='validation': no such split in {path}; use one of {known}"
    )


def test_saved_folder_without_rows_has_none(tmp_path: Path) -> None:
    train = datasets.Dataset.from_list([{"prompt": "a"}])
    none = train.select([])
    none.save_to_disk(tmp_path / "none")
    datasets.DatasetDict(train=train, test=none).save_to_disk(tmp_path / "both")
    assert rows(DatasetSource(path="none"), tmp_path) == []
    assert rows(DatasetSource(path="both", split="test"), tmp_path) == []
    assert rows(DatasetSource(path="both"), tmp_path) == [Row("both[0]", {"prompt": "a"})]


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"_data_files": null, "_split": null}'])
def test_saved_folder_with_a_damaged_state_is_refused(saved_folder: Path, state: str) -> None:
    (saved_folder / "one" / "state.json").write_text(state)
    with pytest.raises(InvalidError, match=r"^spec\.data\.prompts\.path='one': cannot be read: "):
        rows(DatasetSource(path="one"), saved_folder)


def test_saved_folder_that_was_cut_off_is_refused(saved_folder: Path) -> None:
    (file,) = (saved_folder / "one").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InvalidError, match=r"^spec\.data\.prompts\.path='one': cannot be read: "):
        rows(DatasetSource(path="one"), saved_folder)


def test_hub_rows_are_those_of_the_split(
    jsonl: Jsonl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # datasets reads a local folder of files as if it lay on the hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    jsonl("hub/train.jsonl", {"prompt": "a"})
    jsonl("hub/test.jsonl", {"prompt": "b"}, {"prompt": "c"})
    hub = str(tmp_path / "hub")
    assert rows(DatasetSource(hub=hub, split="test"), tmp_path) == [
        Row(f"{hub}/test[0]", {"prompt": "b"}),
        Row(f"{hub}/test[1]", {"prompt": "c"}),
    ]
    with pytest.raises(InvalidError, match=r"spec\.data\.prompts\.hub=.*Unknown split"):
        rows(DatasetSource(hub=hub, split="validation"), tmp_path)
    (tmp_path / "hub" / "train.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(InvalidError, match=r"prompts\.hub=.*: cannot be read: JSON parse error"):
        rows(DatasetSource(hub=hub), tmp_path)


def test_hub_is_asked_for_id_split_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    asked: list[object] = []

    def load(*args: object, **kwargs: object) -> list[dict[str, str]]:
        asked.append((args, kwargs))
        return [{"prompt": "a"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = DatasetSource(hub="org/name", split="test", revision="abc")
    assert rows(source, tmp_path) == [Row("org/name/test[0]", {"prompt": "a"})]
    assert asked == [(("org/name",), {"split": "test", "revision": "abc"})]


def _generation_error(cause: Exception) -> Exception:
    error = datasets.exceptions.DatasetGenerationError("An error occurred")
    error.__cause__ = cause
    return cast("Exception", error)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            ConnectionError("Couldn't reach 'org/name' on the Hub"),
            PhaseError,
            (
                "spec.data.prompts.hub='org/name': the hub cannot be reached "
                "(Couldn't reach 'org/name' on the Hub); "
                "check the network, or download the data set and name its path"
            ),
        ),
        (
            FileNotFoundError("Dataset 'org/name' doesn't exist on the Hub"),
            InvalidError,
            (
                "spec.data.prompts.hub='org/name': cannot be read: Dataset 'org/name' doesn't "
                "exist on "
                "the Hub; correct it, or convert the data to .jsonl"
            ),
        ),
        (
            _generation_error(LocalEntryNotFoundError("timed out")),
            PhaseError,
            (
                "spec.data.prompts.hub='org/name': the hub cannot be reached (An error occurred); "
                "check the network, or download the data set and name its path"
            ),
        ),
        (
            _generation_error(ValueError("Couldn't cast\na\nto\nb")),
            InvalidError,
            (
                "spec.data.prompts.hub='org/name': cannot be read: Couldn't cast a to b; correct "
                "it, or convert the data to .jsonl"
            ),
        ),
        (
            _generation_error(OSError(28, "No space left on device")),
            WorkspaceError,
            (
                f"{datasets.config.HF_DATASETS_CACHE}: spec.data.prompts.hub='org/name' could not "
                "be written: [Errno 28] No space left on device; make room on the volume, lower "
                "checkpoint.keepLast, or let the trainer write there; what was complete before "
                "stands"
            ),
        ),
    ],
    ids=["no network", "no such data set", "broken off", "wrong records", "no room"],
)
def test_hub_failure_is_the_users_only_if_the_hub_answered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[PhaseError],
    message: str,
) -> None:

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(PhaseError) as caught:
        rows(DatasetSource(hub="org/name"), tmp_path)
    assert type(caught.value) is kind
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MemoryError),
        (OSError(errno.ESTALE, "Stale file handle"), OSError),
        (TimeoutError("timed out"), PhaseError),
        (OSError("Not enough disk space. Needed: 3 GB"), WorkspaceError),
    ],
    ids=["no memory", "server began anew", "timed out", "no room"],
)
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["plain", "wrapped"])
def test_what_may_pass_is_not_called_the_users_mistake(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
    *,
    is_wrapped: bool,
) -> None:
    raised = _generation_error(error) if is_wrapped else error

    def load(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load)
    passes = kind in (MemoryError, OSError)
    with pytest.raises(type(raised) if passes else kind) as caught:
        rows(DatasetSource(hub="org/name"), tmp_path)
    assert not isinstance(caught.value, InvalidError)
    assert (caught.value is raised) is passes
