"""Write the tables of docs/reliability.md from what tests have seen: reliability.py RECORD DOC.

RECORD holds a JSON object per line, as `RLHF_TEST_RECORD` collects them; a table of DOC stands
between two comments that name it.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Cells = tuple[str, ...]

KILLS = {
    "one-rank": "SIGKILL of one rank",
    "all-ranks": "SIGKILL of all ranks",
    "launcher": "SIGKILL of the launcher",
    "sigterm": "SIGTERM",
}


def table(head: Cells, rows: Iterable[Cells]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def resume(rows: list[Row]) -> str:
    """Phases that were killed: one row per shape, phase and kind of kill."""
    groups: defaultdict[Cells, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["shape"], row["phase"], KILLS[row["kill"]]].append(row)

    def cells() -> Iterator[Cells]:
        for key, group in groups.items():
            completed = sum(row["exitCode"] == 0 for row in group)
            anew = sum(row["resumedStep"] is None for row in group) - completed
            saved = len(group) - anew - completed
            what = [
                f"{count} {text}"
                for count, text in (
                    (saved, "from a checkpoint"),
                    (anew, "from the beginning"),
                    (completed, "completed before it ended"),
                )
                if count
            ]
            equal = sum(row["isEqual"] for row in group)
            yield (*key, str(len(group)), ", ".join(what), f"{equal} of {len(group)}")

    head = ("shape", "phase", "fault", "times", "went on", "equal to the undisturbed, bit for bit")
    return table(head, cells())


def handled(rows: list[Row]) -> str:
    """Faults that a test each is about."""
    counts = Counter((row["fault"], row["then"]) for row in rows)
    cells = ((fault, str(count), then) for (fault, then), count in counts.items())
    return table(("fault", "times", "what happened"), cells)


def crashes(rows: list[Row]) -> str:
    """The operator dying after its writes."""
    return table(
        ("run", "the operator died after", "same end, no duplicate job"),
        ((row["run"], _after(row), "every time") for row in rows),
    )


def _after(row: Row) -> str:
    each = "each" if row["stride"] == 1 else f"every {row['stride']}th"
    return f"{each} of its writes: {row['points']} times"


def failover(rows: list[Row]) -> str:
    """Leaders that went."""
    return table(
        ("leader", "the other leads after", "and has started the next job after"),
        (
            (row["fault"], f"{row['leadsSeconds']:.1f} s", f"{row['worksSeconds']:.1f} s")
            for row in rows
        ),
    )


def late(rows: list[Row]) -> str:
    """Late writes of leaders that were frozen."""
    meaning = {
        "201": "done: an Event, or a job that the new leader removes at once",
        "404": "refused: it is gone",
        "409": "refused: it has changed, or exists",
        "504": "not answered",
    }
    counts = Counter(row["sent"] for row in rows)

    def cells() -> Iterator[Cells]:
        for sent, count in sorted(counts.items()):
            what, _, code = sent.partition(": ")
            code, _, after = code.partition(", ")
            undone = f"; then {after}" if after else ""
            yield what, str(count), f"{code}, {meaning[code]}{undone}"

    return table(("late write", "times", "answer"), cells())


def faults(rows: list[Row]) -> str:
    """Faults of the API server and of the training operator."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["fault"]].append(row)

    def cells() -> Iterator[Cells]:
        for fault, group in groups.items():
            counts: Counter[str] = Counter()
            for row in group:
                counts.update(row["counts"])
            often = ", ".join(
                f"{count} x {what}" if what != "times" else f"{count} x"
                for what, count in sorted(counts.items())
                if count
            )
            runs = sum(row["runs"] for row in group)
            yield fault, often, f"{runs} of {runs} runs completed, every job was made once"

    return table(("fault", "how often", "what happened"), cells())


TABLES: dict[str, Callable[[list[Row]], str]] = {
    one.__name__: one for one in (resume, handled, crashes, failover, late, faults)
}


def filled(text: str, rows: list[Row]) -> str:
    """Return the document with its tables filled in."""
    for name, build in TABLES.items():
        own = [row for row in rows if row["table"] == name]
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if not own or begin not in text or end not in text:
            sys.exit(f"table {name}: no rows, or no place for them; run make soak to its end")
        head, _, rest = text.partition(begin)
        text = head + begin + "\n" + build(own) + "\n\n" + end + rest.partition(end)[2]
    return text


def main() -> None:
    """Fill the tables in."""
    record, document = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    text = document.read_text(encoding="utf-8")
    document.write_text(filled(text, rows), encoding="utf-8")
    print(f"{document}: {len(rows)} rows")


if __name__ == "__main__":
    main()
