"""Rows of a data set with their places: from JSONL, Parquet, saved folders and the hub.

Decided here: what can be read, and how a row is named to people. `file.jsonl:17` is a line, counted
from 1 as editors do; `file.parquet[16]` is a row, counted from 0 as `datasets` and pandas do. What
a row means is decided elsewhere. pyarrow and datasets are imported only when such a source is read.
"""

import codecs
import errno
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.data.hub import causes, hub_is_silent
from rlhf_trainer.data.problems import Problem, shortened
from rlhf_trainer.errors import InvalidError, PhaseError, WorkspaceError
from rlhf_trainer.files import WRITE_ERRNOS

DEFAULT_SPLIT = str(DatasetSource.model_fields["split"].default)
PARQUET_BATCH_ROWS = 1024
"""Rows held in memory at a time."""
MESSAGE_CHARACTERS = 200
"""A library's message is cut there."""

PASSING_ERRNOS = frozenset({errno.ESTALE, errno.EMFILE, errno.ENFILE})
"""A file server that began anew, files that others hold open."""


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON value of a data set, and its place for people."""

    place: str
    value: object


def read_rows(source: DatasetSource, setting: str, data_root: Path) -> Iterator[Row | Problem]:
    """Yield the rows of `source`; what cannot be read as a row is yielded as a problem.

    `setting` is the source's place in the manifest, such as `spec.data.prompts`.

    Raises:
        InvalidError: there is no such source, or it cannot be read at all.
        PhaseError: the hub cannot be reached; another attempt may succeed.
        WorkspaceError: what the hub sends finds no room.
    """
    try:
        if source.path is None:
            yield from _read_hub(source, str(source.hub))
        else:
            yield from _read_path(source, source.path, setting, data_root)
    except PhaseError:
        raise
    except Exception as error:
        # datasets and pyarrow raise what their parts raise, some of it at the last row only.
        if any(_may_pass(cause) for cause in causes(error)):
            raise
        raise _translated(source, setting, error) from error


def _read_path(
    source: DatasetSource, name: str, setting: str, data_root: Path
) -> Iterator[Row | Problem]:
    path = data_root / name
    if path.is_dir():
        return _read_folder(path, source, setting)
    if not path.is_file():
        where = "" if Path(name).is_absolute() else f" below the data root {data_root}"
        raise InvalidError(
            f"{setting}.path",
            shortened(name),
            f"no such file or folder{where}",
            "correct the path, or make the file",
        )
    if path.suffix == ".jsonl":
        return _read_jsonl(path, name)
    if path.suffix == ".parquet":
        return _read_parquet(path, name)
    raise InvalidError(
        f"{setting}.path",
        shortened(name),
        f"files ending in {path.suffix or 'nothing'!r} are not supported",
        "convert it to .jsonl or .parquet, or to a folder saved by `datasets`",
    )


def _read_jsonl(path: Path, name: str) -> Iterator[Row | Problem]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{name}:{number}"
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                yield Problem(
                    place, shortened(line[:8]), "is UTF-16, not UTF-8", "save the file as UTF-8"
                )
                return
            if line.strip():
                yield _parse_line(place, line)


def _parse_line(place: str, line: bytes) -> Row | Problem:
    if line.startswith(codecs.BOM_UTF8):
        return Problem(
            place,
            shortened(line),
            "begins with a byte order mark",
            "save the file as UTF-8 without",
        )
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        return Problem(place, shortened(line), f"is not UTF-8: {found}", "save the file as UTF-8")
    try:
        return Row(place, json.loads(text))
    except RecursionError:
        return Problem(place, shortened(text), "is nested too deeply", "write a flat JSON object")
    except json.JSONDecodeError as error:
        found = f"{error.msg} at position {error.pos + 1}"
    except ValueError as error:
        found = str(error)
    return Problem(
        place, shortened(text), f"is not JSON: {found}", "write one JSON object per line"
    )


def _read_parquet(path: Path, name: str) -> Iterator[Row]:
    from pyarrow import parquet  # type: ignore[import-untyped]  # noqa: PLC0415 - JSONL needs none

    index = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
            for value in batch.to_pylist():
                yield Row(f"{name}[{index}]", value)
                index += 1


def _read_folder(path: Path, source: DatasetSource, setting: str) -> Iterator[Row]:
    import datasets  # type: ignore[import-untyped]  # noqa: PLC0415 - files need none of it

    name = str(source.path)
    if not (path / "dataset_dict.json").is_file() and not (path / "dataset_info.json").is_file():
        raise InvalidError(
            f"{setting}.path",
            shortened(name),
            "is a folder that `datasets` did not save",
            "name a .jsonl or .parquet file, or write the folder with `save_to_disk`",
        )
    folders = _splits(path)
    folder = folders.get(source.split)
    if folder is None:
        raise InvalidError(
            f"{setting}.split",
            shortened(source.split),
            f"no such split in {name}",
            f"use one of {', '.join(folders)}",
        )
    if _json(folder / "state.json")["_data_files"] == []:
        return iter(())  # `datasets` saves no rows so, and fails to load them
    return _numbered(name, datasets.load_from_disk(str(folder)))


def _splits(path: Path) -> dict[str, Path]:
    """Return the folder of each split that a saved folder holds."""
    index = path / "dataset_dict.json"
    if index.is_file():
        return {name: path / name for name in _json(index)["splits"]}
    return {_json(path / "state.json")["_split"] or DEFAULT_SPLIT: path}


def _json(file: Path) -> Any:  # noqa: ANN401 - what is wrong with it, whoever reads it is told
    return json.loads(file.read_text(encoding="utf-8"))


def _read_hub(source: DatasetSource, name: str) -> Iterator[Row]:
    import datasets  # noqa: PLC0415 - files need none of it

    loaded = datasets.load_dataset(name, split=source.split, revision=source.revision)
    return _numbered(f"{name}/{source.split}", loaded)


def _numbered(name: str, values: Iterable[object]) -> Iterator[Row]:
    return (Row(f"{name}[{index}]", value) for index, value in enumerate(values))


def _translated(source: DatasetSource, setting: str, error: Exception) -> PhaseError:
    """Return whose fault it is that a source cannot be read: the user's, the hub's or a disk's."""
    field, value = ("path", source.path) if source.path else ("hub", source.hub)
    chain = list(causes(error))
    if field == "hub":
        if hub_is_silent(error):
            return PhaseError(
                f"{setting}.hub={value!r}: the hub cannot be reached ({_in_a_line(error)}); "
                "check the network, or download the data set and name its path",
                reason="HubUnreachable",
            )
        for cause in chain:
            if isinstance(cause, OSError) and _has_no_room(cause):
                return WorkspaceError(_cache(), f"{setting}.hub={value!r}", cause)
    # "An error occurred", and what that was.
    told = chain[1] if type(error).__name__ == "DatasetGenerationError" and chain[1:] else error
    return InvalidError(
        f"{setting}.{field}",
        shortened(value),
        f"cannot be read: {_in_a_line(told)}",
        "correct it, or convert the data to .jsonl",
    )


def _may_pass(error: BaseException) -> bool:
    """Return whether the same source may be read the next time: no fault of whoever named it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in PASSING_ERRNOS
    )


def _has_no_room(error: OSError) -> bool:
    # datasets looks for room before it begins, and raises an error of its own.
    return error.errno in WRITE_ERRNOS or str(error).startswith("Not enough disk space")


def _cache() -> Path:
    import datasets  # noqa: PLC0415 - files need none of it

    return Path(datasets.config.HF_DATASETS_CACHE)


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARACTERS] or type(error).__name__
