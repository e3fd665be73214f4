"""Every make target explains itself, and serves something that exists."""

import re
import subprocess
from pathlib import Path

TARGET = re.compile(r"^(?P<name>[A-Za-z][\w-]*):(?!=)(?P<rest>.*)$", re.MULTILINE)


def targets(root: Path) -> dict[str, str]:
    text = (root / "Makefile").read_text(encoding="utf-8")
    return {match["name"]: match["rest"] for match in TARGET.finditer(text)}


def test_every_target_is_documented(root: Path) -> None:
    assert [name for name, rest in targets(root).items() if "## " not in rest] == []


def test_every_target_is_phony(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE))
    assert phony == set(targets(root))


def test_help_is_the_default_and_lists_every_target(root: Path) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=root, capture_output=True, text=True, check=True
    )
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert listed == set(targets(root))


def test_test_rooms_with_a_target_exist(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    rooms = re.findall(r"-m pytest (tests/\S+)", text)
    assert [room for room in rooms if not (root / room).exists()] == []


def test_ci_runs_make_test_and_requires_every_test(root: Path) -> None:
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    assert "RLHF_TEST_REQUIRE=all" in script
    assert script.rstrip().endswith("exec make test")
