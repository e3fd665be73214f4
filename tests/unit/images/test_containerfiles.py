"""What both images keep to, beside what hadolint checks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from containerfile import Containerfile, read

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ("operator", "trainer")
PINNED = re.compile(r"^[a-z0-9-]+(/[a-z0-9-]+)*:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?$")
"""A tag with a version, a digest where one is known, and no host."""

IMPORTS = """
import sys
import rlhf_operator.cli.app, rlhf_operator.main
import rlhf_trainer.data.agreement_command, rlhf_trainer.data.check
heavy = [name for name in ("torch", "transformers", "datasets", "deepspeed") if name in sys.modules]
sys.exit(f"imports {heavy}" if heavy else 0)
"""


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def built(image: str) -> Containerfile:
    return read(ROOT / "images" / image / "Containerfile")


def test_bases_are_earlier_stages_or_pinned_arguments(built: Containerfile) -> None:
    known = set()
    for stage in built.stages:
        argument = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert argument or stage.base in known, f"FROM {stage.base}"
        if argument:
            value = built.arguments[argument[1]]
            other = re.fullmatch(r"\$\{(\w+)\}", value)
            assert PINNED.match(built.arguments[other[1]] if other else value), value
        known.add(stage.name)


def test_runs_as_a_user_by_number(built: Containerfile) -> None:
    assert built.final.all("USER") == ["65532:65532"]


def test_nothing_is_added_from_elsewhere(built: Containerfile) -> None:
    assert [stage.name for stage in built.stages if stage.all("ADD")] == []


def test_dependency_layer_knows_the_lock_and_no_code(built: Containerfile) -> None:
    assert {stage for stage, _, _ in built["dependencies"].copies} == {"locked"}
    (lock,) = built["locked"].copies
    assert lock == ("", ["pyproject.toml", "requirements/lock.txt", "images/locked.py"], "./")


def test_dependencies_come_before_code_and_apart_from_it(built: Containerfile) -> None:
    copies = [(stage, target) for stage, _, target in built.final.copies]
    assert copies == [("dependencies", "/opt/venv"), ("code", "/app")]


def test_packages_are_installed_with_hashes(built: Containerfile) -> None:
    dependencies = built["dependencies"]
    everywhere = any("PIP_REQUIRE_HASHES=1" in words for words in dependencies.all("ENV"))
    for words in dependencies.all("RUN"):
        if "pip install" in words or "python install" in words:
            assert everywhere or "--require-hashes" in words, words


def test_labels_tell_what_it_is(built: Containerfile) -> None:
    told = " ".join(built.final.all("LABEL"))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in told


def test_context_holds_what_is_copied_and_little_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and line[0] != "#"]
    assert rules[0] == "*"
    allowed = {Path(line[1:]) for line in rules if line[0] == "!"}
    copied = {
        Path(source)
        for image in IMAGES
        for stage in read(ROOT / "images" / image / "Containerfile").stages
        for origin, sources, _ in stage.copies
        for source in sources
        if not origin
    }
    used = {one: [c for c in copied if one == c or one in c.parents] for one in allowed}
    assert [one for one, users in used.items() if not users] == []
    assert copied == {one for users in used.values() for one in users}
    assert [one for one in copied if not (ROOT / one).exists()] == []


def test_operator_image_holds_what_the_operator_imports(tmp_path: Path) -> None:
    for _, sources, target in read(ROOT / "images/operator/Containerfile")["code"].copies:
        for source in sources:
            goal = tmp_path / target / (Path(source).name if target.endswith("/") else "")
            goal.parent.mkdir(parents=True, exist_ok=True)
            is_folder = (ROOT / source).is_dir()
            (shutil.copytree if is_folder else shutil.copyfile)(ROOT / source, goal)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
