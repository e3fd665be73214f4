"""Writes docs/benchmarks.md from benchmarks/results: `python scripts/generate_benchmarks.py`.

The page is never edited by hand: whoever measures again records a result and generates. `make
verify` fails when it is out of date.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from recording import Cell, Conditions, Lever, Result, Table, read_results

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
LARGE = 1000
"""From here on numbers are shown without decimals."""

HEAD = """<!-- DO NOT EDIT: written by `make generate` from benchmarks/results. -->

# Benchmarks

What was measured, with the command that measures it again. Numbers in a row, and so their ratios,
are of the same run; nothing here decides a test. [How to run them](../benchmarks/README.md).
"""


def page(results: Sequence[Result]) -> str:
    """Return the page."""
    parts = [HEAD, _glance(results)]
    for section, members in groupby(results, key=lambda result: result.section):
        parts.append(f"\n## {section}\n")
        parts.extend(_result(result) for result in members)
    parts.append(_levers(results))
    return "".join(parts)


def _glance(results: Sequence[Result]) -> str:
    rows = [(result.title, line) for result in results for line in result.headlines]
    return "\n## At a glance\n\n" + _grid(("what", "found"), rows) if rows else ""


def _result(result: Result) -> str:
    parts = [f"\n### {result.title}\n\n{result.measured} Run `{result.command}`.\n"]
    if result.unmeasured:
        parts.append(f"\n**Not measured**: {result.unmeasured}\n")
    parts.extend(_table(table) for table in result.tables)
    parts.append(_list(result.notes))
    if result.conditions is not None:
        parts.append(f"\n{_conditions(result.conditions)}\n")
    return "".join(parts)


def _table(table: Table) -> str:
    rows = [[shown(cell) for cell in row] for row in table.rows]
    return f"\n**{table.title}**\n\n" + _grid(table.columns, rows) + _list(table.notes)


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(_escaped(cell) for cell in line) + " |\n" for line in lines)


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def shown(cell: Cell) -> str:
    """Return a cell as people read it: numbers with three digits that count, or whole ones."""
    match cell:
        case None:
            return "-"
        case str():
            return cell
        case int():
            return f"{cell:,}"
        case float() if abs(cell) >= LARGE - 0.5:
            return f"{cell:,.0f}"
        case float():
            rounded = abs(float(f"{cell:.3g}"))  # so that 0.9996 is 1.00, and 9.996 is 10.0
            digits = len(str(int(rounded))) if rounded >= 1 else 0
            return f"{cell:.{3 - digits}f}"


def _list(notes: Sequence[str]) -> str:
    return "\n" + "".join(f"- {note}\n" for note in notes) if notes else ""


def _conditions(told: Conditions) -> str:
    where = told.machine
    text = (
        f"Measured on {told.date}: {where.processor}, {where.cores} cores, "
        f"{where.memory_gib:g} GiB, Linux {where.kernel}; load {told.load_before:g} before and "
        f"{told.load_after:g} after; "
    )
    text += ", ".join(f"{name} {number}" for name, number in told.versions.items())
    if told.settings:
        text += "; with " + ", ".join(f"`{name}={value}`" for name, value in told.settings.items())
    return text + "."


def _levers(results: Sequence[Result]) -> str:
    parts = []
    for title, kept in (("What paid", True), ("What did not pay", False)):
        rows = list(_tried(results, kept=kept))
        if rows:
            parts.append(f"\n## {title}\n\n" + _grid(("what was tried", "numbers", "in"), rows))
    return "".join(parts)


def _tried(results: Sequence[Result], *, kept: bool) -> Iterator[tuple[str, str, str]]:
    for result in results:
        levers: Sequence[Lever] = result.levers
        for lever in levers:
            if lever.kept is kept:
                yield lever.name, lever.numbers, result.title


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(read_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
