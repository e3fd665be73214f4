"""What no file of the project has: `python scripts/check_files.py FILE...` names every place.

Trailing blanks, a missing or doubled newline at the end, left-over conflict markers, large files.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST_BYTES = 4 * 2**20
"""Enough for the example's base model."""

CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7}) ")


def problems(path: Path) -> Iterator[str]:
    """Yield a line for everything that is wrong with one file."""
    data = path.read_bytes()
    if len(data) > LARGEST_BYTES:
        yield f"{path}: {len(data):,} bytes; keep it under {LARGEST_BYTES:,}, or fetch at run time"
    if b"\0" in data:
        return
    text = data.decode("utf-8")
    for number, line in enumerate(text.split("\n"), start=1):
        if line != line.rstrip():
            yield f"{path}:{number}: blanks at the end of the line; remove them"
        if CONFLICT.match(line):
            yield f"{path}:{number}: left-over of a merge conflict; resolve it"
    written_by_hand = path.suffix != ".json"
    if written_by_hand and text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{path}: does not end with one newline; make it so"


def main(names: list[str]) -> int:
    """Print all problems of the named files."""
    found = [problem for name in names if Path(name).is_file() for problem in problems(Path(name))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
