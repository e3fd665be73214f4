"""The part of requirements/lock.txt that an image installs, hashes and all, on standard output.

    python locked.py --extra operator --package numpy
    python locked.py --extra trainer --leave-out deepspeed
    python locked.py --only deepspeed

The lock says under each package what asks for it (`# via`), and pyproject.toml what the project
asks for itself: everything reachable from there is printed. So the lock stays the one owner of
versions, and a layer of an image changes only with what is in it. Runs before anything is
installed: the standard library suffices.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ENTRY = re.compile(r"^(?P<name>[a-z0-9][\w.-]*)(?:\[[^\]]*\])?==")
NAME = re.compile(r"^[A-Za-z0-9][\w.-]*")


def entries(lock: str) -> dict[str, str]:
    """The lines of each package, by its name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in lock.splitlines():
        if match := ENTRY.match(line):
            lines = found.setdefault(match["name"], [])
        lines.append(line)
    return {name: "\n".join(part) + "\n" for name, part in found.items()}


def askers(entry: str) -> set[str]:
    """The packages that ask for the one of this entry."""
    _, _, via = entry.partition("# via")
    return {words[0] for line in via.splitlines() if (words := line.strip(" #").split())}


def wanted(project: dict[str, list[str]], extras: Iterable[str]) -> set[str]:
    """What the project itself asks for, normalised as in the lock."""
    asked = [one for group in ("", *extras) for one in project[group]]
    return {canonical(one) for one in asked}


def canonical(requirement: str) -> str:
    """The name in a requirement, as locks spell it."""
    match = NAME.match(requirement)
    if match is None:
        msg = f"{requirement!r}: no name of a package; write it as NAME or NAME>=VERSION"
        raise ValueError(msg)
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def closure(locked: dict[str, str], names: set[str]) -> list[str]:
    """The names, and everything that they need, in the lock's order."""
    if unknown := sorted(names - locked.keys()):
        msg = f"{', '.join(unknown)}: not in the lock; renew it with `make lock`"
        raise ValueError(msg)
    needed, before = set(names), set[str]()
    while needed != before:
        before = set(needed)
        needed |= {name for name, entry in locked.items() if askers(entry) & before}
    return [name for name in locked if name in needed]


def groups(project: Path) -> dict[str, list[str]]:
    """What a pyproject.toml asks for: by extra, and under "" always."""
    with project.open("rb") as file:
        content = tomllib.load(file)["project"]
    return {"": content["dependencies"], **content["optional-dependencies"]}


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description="Print a part of the lock.")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml")
    parser.add_argument("--package", action="append", default=[], help="one more, of the lock")
    parser.add_argument("--leave-out", default="", help="a package that is installed otherwise")
    parser.add_argument("--only", default="", help="print this package and nothing that it needs")
    chosen = parser.parse_args()
    locked = entries(Path("lock.txt").read_text(encoding="utf-8"))
    asked = wanted(groups(Path("pyproject.toml")), chosen.extra)
    names = closure(locked, asked | {canonical(one) for one in chosen.package})
    if chosen.only:
        names = [chosen.only]
    sys.stdout.write("".join(locked[name] for name in names if name != chosen.leave_out))


if __name__ == "__main__":
    main()
