"""One data set as records: every row parsed, every wrong one told, all of one format.

Records are held in memory: the data sets of RLHF are small beside those of pretraining
(InstructGPT's have 13, 33 and 31 thousand records), and each is read once. Whether a problem ends a
run is decided elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.data.formats import (
    Parsed,
    R,
    RecordError,
    parse_comparison,
    parse_demonstration,
    parse_prompt,
)
from rlhf_trainer.data.problems import Problem, Problems, shortened
from rlhf_trainer.data.records import Comparison, Demonstration, Prompt
from rlhf_trainer.data.sources import Row, read_rows
from rlhf_trainer.errors import InvalidError


@dataclass(frozen=True)
class Kind(Generic[R]):
    """What one of the three data sets holds."""

    name: str
    """Field of `spec.data` and `spec.data.heldOut`."""
    parse: Callable[[str, Mapping[str, object]], Parsed[R]]


DEMONSTRATIONS: Kind[Demonstration] = Kind("demonstrations", parse_demonstration)
COMPARISONS: Kind[Comparison] = Kind("comparisons", parse_comparison)
PROMPTS: Kind[Prompt] = Kind("prompts", parse_prompt)


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """The records of one data set, in its order, and what was wrong with it."""

    records: list[R]
    problems: list[Problem]
    format: str
    """How its rows spell records; empty without records."""
    ignored_fields: tuple[str, ...]
    """Fields of its rows that no record was made of."""


class _Loader(Generic[R]):
    """Turns rows into records, and remembers the format of the first."""

    def __init__(self, kind: Kind[R], setting: str) -> None:
        self.records: list[R] = []
        self.problems = Problems(setting)
        self.ignored: set[str] = set()
        self.format = ""
        self._kind = kind

    def take(self, row: Row | Problem) -> None:
        """Note the record of `row`, or what is wrong with it."""
        if isinstance(row, Problem):
            self.problems.add(row)
            return
        try:
            parsed = self._parse(row)
        except RecordError as error:
            place = f"{row.place} {error.field}".rstrip()
            self.problems.add(Problem(place, shortened(error.value), error.problem, error.fix))
            return
        self.records.append(parsed.record)

    def _parse(self, row: Row) -> Parsed[R]:
        if not isinstance(row.value, Mapping):
            raise RecordError("", row.value, "is not an object", 'write {"field": value, …}')
        present = {name: value for name, value in row.value.items() if value is not None}
        parsed = self._kind.parse(row.place, present)
        self.format = self.format or parsed.format
        if parsed.format != self.format:
            raise RecordError(
                "fields",
                sorted(present),
                f"are of the format {parsed.format}, where {self.records[0].place} is of "
                f"{self.format}",
                "write all records of a data set in one format",
            )
        self.ignored |= present.keys() - parsed.fields
        return parsed


def load(kind: Kind[R], source: DatasetSource, setting: str, data_root: Path) -> Loaded[R]:
    """Return the records of `source`; a source that cannot be read is a problem like any other.

    A field that is null counts as absent: columns of Parquet have no other way to leave one out.

    Raises:
        PhaseError: the hub cannot be reached.
    """
    loader = _Loader(kind, setting)
    num_rows = 0
    try:
        for row in read_rows(source, setting, data_root):
            num_rows += 1
            loader.take(row)
    except InvalidError as error:
        loader.problems.add(Problem.from_error(error))
    else:
        if not num_rows:
            loader.problems.add(
                Problem(
                    setting, shortened(source.path or source.hub), "holds no records", "add some"
                )
            )
    ignored = tuple(sorted(loader.ignored))
    return Loaded(loader.records, loader.problems.told(), loader.format, ignored)
