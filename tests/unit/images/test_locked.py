"""The part of the lock that an image installs is what its extras need: no more, no less."""

from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import locked

ROOT = Path(__file__).resolve().parents[3]

LOCK = """\
one==1.0 \\
    --hash=sha256:aa
    # via project (pyproject.toml)
two[fast]==2.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via
    #   one
    #   three
three==3.0 \\
    --hash=sha256:dd
    # via project (pyproject.toml)
four==4.0 \\
    --hash=sha256:ee
    # via two
"""


def part(*, extras: Iterable[str] = (), packages: Iterable[str] = ()) -> list[str]:
    lock = locked.entries((ROOT / "requirements/lock.txt").read_text(encoding="utf-8"))
    asked = locked.wanted(locked.groups(ROOT / "pyproject.toml"), extras)
    return locked.closure(lock, asked | set(packages))


def needed(names: Iterable[str]) -> set[str]:
    """What the installed packages themselves say that they need."""
    open_ends, found = [Requirement(name) for name in names], set[tuple[str, str]]()
    while open_ends:
        one = open_ends.pop()
        for extra in ("", *one.extras):
            key = locked.canonical(one.name), extra
            if key in found:
                continue
            found.add(key)
            asked = map(Requirement, distribution(one.name).requires or ())
            open_ends += [r for r in asked if not r.marker or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def test_entry_keeps_its_hashes_and_names_who_asks() -> None:
    found = locked.entries(LOCK)
    assert list(found) == ["one", "two", "three", "four"]
    assert found["two"].startswith(
        "two[fast]==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc"
    )
    assert locked.askers(found["two"]) == {"one", "three"}
    assert locked.askers(found["four"]) == {"two"}


def test_closure_follows_what_is_asked_for_and_nothing_else() -> None:
    found = locked.entries(LOCK)
    assert locked.closure(found, {"one"}) == ["one", "two", "four"]
    assert locked.closure(found, {"two"}) == ["two", "four"]


def test_closure_name_outside_the_lock_is_refused() -> None:
    with pytest.raises(ValueError, match="five: not in the lock"):
        locked.closure(locked.entries(LOCK), {"five"})


def test_requirement_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no name"):
        locked.canonical(">=2")


@pytest.mark.parametrize("extras", [["operator"], ["trainer", "example"]], ids=" ".join)
def test_part_is_what_the_installed_packages_need(extras: list[str]) -> None:
    groups = locked.groups(ROOT / "pyproject.toml")
    asked = [one for group in ("", *extras) for one in groups[group]]
    assert set(part(extras=extras)) == needed(asked)


def test_operator_part_is_free_of_torch() -> None:
    names = part(extras=["operator"], packages=["numpy"])
    assert {"kopf", "kubernetes", "numpy"} <= set(names)
    assert [name for name in names if name.startswith(("torch", "nvidia", "transformers"))] == []
