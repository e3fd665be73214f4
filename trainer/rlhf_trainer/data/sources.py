"""Rows of a data set with their places: from JSONL, Parquet, saved folders and the hub.

Decided here: what can be read, and how a row is named to people. `file.jsonl:17` is a line, counted
from 1 as editors do; `file.parquet[16]` is a row, counted from 0 as `datasets` and pandas do. What
a row means is decided elsewhere. pyarrow and datasets are imported only when such a source is read.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.data.problems import Problem, shortened
from rlhf_trainer.errors import InvalidError, PhaseError

DEFAULT_SPLIT = str(DatasetSource.model_fields["split"].default)
PARQUET_BATCH_ROWS = 1024
"""Rows held in memory at a time."""


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
    """
    if source.path is None:
        return _read_hub(source, setting)
    try:
        return _read_path(source, source.path, setting, data_root)
    except OSError as error:
        # A folder that may not be entered, or a name too long.
        raise _unreadable(setting, "path", source.path, error) from error


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
        return _read_jsonl(path, name, setting)
    if path.suffix == ".parquet":
        return _read_parquet(path, name, setting)
    raise InvalidError(
        f"{setting}.path",
        shortened(name),
        f"files ending in {path.suffix or 'nothing'!r} are not supported",
        "convert it to .jsonl or .parquet, or to a folder saved by `datasets`",
    )


def _read_jsonl(path: Path, name: str, setting: str) -> Iterator[Row | Problem]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(setting, "path", name, error) from error
    with file:
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


def _read_parquet(path: Path, name: str, setting: str) -> Iterator[Row]:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - JSONL needs none of it
    from pyarrow import parquet  # noqa: PLC0415 - the same

    index = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for value in batch.to_pylist():
                    yield Row(f"{name}[{index}]", value)
                    index += 1
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(setting, "path", name, error) from error


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
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(setting, "path", name, error) from error
    if isinstance(loaded, datasets.DatasetDict):
        known = list(loaded)
        loaded = loaded.get(source.split)
    else:
        known = [str(loaded.split or DEFAULT_SPLIT)]
        loaded = loaded if source.split in known else None
    if loaded is None:
        raise InvalidError(
            f"{setting}.split",
            shortened(source.split),
            f"no such split in {name}",
            f"use one of {', '.join(known)}",
        )
    return _numbered(name, loaded)


def _read_hub(source: DatasetSource, setting: str) -> Iterator[Row]:
    import datasets  # noqa: PLC0415 - files need none of it

    try:
        loaded = datasets.load_dataset(source.hub, split=source.split, revision=source.revision)
    except ConnectionError as error:
        raise PhaseError(
            f"{setting}.hub={source.hub!r}: the hub cannot be reached ({_first_line(error)}); "
            "check the network, or download the data set and name its path",
            reason="HubUnreachable",
        ) from error
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise _unreadable(setting, "hub", str(source.hub), error) from error
    return _numbered(f"{source.hub}/{source.split}", loaded)


def _numbered(name: str, values: Iterator[object]) -> Iterator[Row]:
    return (Row(f"{name}[{index}]", value) for index, value in enumerate(values))


def _unreadable(setting: str, field: str, value: str, error: Exception) -> InvalidError:
    return InvalidError(
        f"{setting}.{field}",
        shortened(value),
        f"cannot be read: {_first_line(error)}",
        "correct it, or convert the data to .jsonl",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
