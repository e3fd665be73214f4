"""The form in which every benchmark leaves its results, and where: `benchmarks/results/NAME.json`.

docs/benchmarks.md is made from these files by `make generate`. A result says on what machine, with
what versions and under what load it was taken, or why it was not taken.
"""

import os
import platform
import shlex
import subprocess
import time
from argparse import Namespace
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import TypeAdapter

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "transformers", "deepspeed", "trl", "peft")
VECTORS = {"avx512f": "with AVX-512", "avx2": "with AVX2"}
"""Flags of a processor, those of the widest vectors first."""

Cell = str | float | int | None
"""What a table may hold; None is shown as a dash."""


class Section(StrEnum):
    """Where on the page a result stands."""

    TRAINING = "Training on CPU"
    GPU = "On a GPU"
    PLANNER = "Planner"
    OPERATOR = "Operator"


@dataclass(frozen=True)
class Table:
    """Measured numbers; those of one row are of the same run."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if ragged := [row for row in self.rows if len(row) != len(self.columns)]:
            msg = (
                f"table {self.title!r} has {len(self.columns)} columns; a row has not: {ragged[0]}"
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class Lever:
    """A change that was tried for speed or memory."""

    name: str
    kept: bool
    numbers: str
    """What it did, with numbers, and how they were taken."""


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str


@dataclass(frozen=True)
class Conditions:
    """Under what circumstances it was measured."""

    date: str
    machine: Machine
    load_before: float
    """Of one minute, as are all loads."""
    load_after: float
    versions: dict[str, str]
    """Of packages, and `rlhf-operator` with the revision of the tree."""
    settings: dict[str, str]
    """Environment variables and the like that both sides ran under."""


@dataclass(frozen=True)
class Result:
    """What one benchmark found."""

    name: str
    """Of its file, too."""
    section: Section
    title: str
    measured: str
    """What was measured and how, in a few sentences."""
    command: str
    """What measures it again."""
    headlines: tuple[str, ...] = ()
    """What it comes to, for whoever reads nothing else."""
    tables: tuple[Table, ...] = ()
    levers: tuple[Lever, ...] = ()
    notes: tuple[str, ...] = ()
    conditions: Conditions | None = None
    """None for numbers that come from elsewhere; then the notes say where from."""
    unmeasured: str | None = None
    """Why there are no numbers, or which are missing."""


_FORM = TypeAdapter(Result)


def record(result: Result, folder: Path = RESULTS) -> Path:
    """Write a result over what an earlier run of the same benchmark left; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.name}.json"
    file.write_bytes(_FORM.dump_json(result, indent=1) + b"\n")
    return file


def read_results(folder: Path = RESULTS) -> list[Result]:
    """Return all results, by section and name."""
    found = [_FORM.validate_json(file.read_bytes()) for file in folder.glob("*.json")]
    sections = list(Section)
    return sorted(found, key=lambda result: (sections.index(result.section), result.name))


def digits(value: float) -> float:
    """Return a measured number with four digits that count: more would only be noise."""
    return float(f"{value:.4g}")


def load() -> float:
    """Return how many processes ran or wanted to, on average of the last minute."""
    return round(os.getloadavg()[0], 2)


def command_line(
    program: str, asked: Namespace, usual: Namespace, *, without: Collection[str] = ()
) -> str:
    """Return what measures again as was asked for: options that are not as usual, but for some."""
    words = ["python", f"benchmarks/{program}.py"]
    for name, value in vars(asked).items():
        if name not in without and _words(value) != _words(getattr(usual, name)):
            words += [f"--{name.replace('_', '-')}", *_words(value)]
    return shlex.join(words)


def _words(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def conditions(
    load_before: float,
    *,
    packages: Sequence[str] = PACKAGES,
    versions: dict[str, str] | None = None,
    settings: dict[str, str] | None = None,
) -> Conditions:
    """Return the circumstances of a measurement that has just ended.

    `versions` adds what is not installed in this environment, such as a peer in its own.
    """
    found = {name: _version(name) for name in packages} | (versions or {})
    found = {name: number for name, number in found.items() if number}
    return Conditions(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=machine(),
        load_before=load_before,
        load_after=load(),
        versions=dict(sorted((found | {"rlhf-operator": revision()}).items())),
        settings=dict(sorted((settings or {}).items())),
    )


def machine() -> Machine:
    """Return what this machine is; its name is nobody's business."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory / 2**30, 1),
        kernel=platform.release(),
    )


def revision() -> str:
    """Return our version and the tree's git revision, marked if something was not committed."""
    root = Path(__file__).resolve().parents[1]
    told = []
    for arguments in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "-uno"]):
        done = subprocess.run(  # noqa: S603 - all arguments are written here
            ["git", "-C", str(root), *arguments],  # noqa: S607 - whichever git is installed
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"{_version('rlhf-operator')} (not a git checkout)"
        told.append(done.stdout.strip())
    changed = " with changes" if told[1] else ""
    return f"{_version('rlhf-operator')} ({told[0]}{changed})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    return processor(file.read_text(encoding="utf-8") if file.exists() else "")


def processor(cpuinfo: str) -> str:
    """Return the processor's model, which `platform` does not know on Linux, and its vectors.

    Clouds give whole families one name; how wide their vectors are decides how they multiply.
    """
    lines = cpuinfo.splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    flags = facts.get("flags", "").split()
    vectors = next((name for flag, name in VECTORS.items() if flag in flags), "")
    return f"{facts.get('model name') or platform.machine()} {vectors}".strip()
