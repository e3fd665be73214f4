from pathlib import Path

import pytest

from rlhf_operator.api.manifest import load_manifest, parse_manifest
from rlhf_operator.cli.starter import SHOWN, starter, write_starter
from rlhf_operator.errors import InvalidManifestError, SpecError


def test_starter_is_valid_and_shows_defaults() -> None:
    text = starter("demo", Path("rlhfrun.yaml"))
    run = parse_manifest(text, "rlhfrun.yaml")
    paths = {f"spec.{path}": value for path, value in SHOWN.items() if value is not None}
    smallest = (
        "{apiVersion: rlhf.dev/v1alpha1, kind: RLHFRun, metadata: {name: demo}, "
        "spec: {model: {source: x}, data: {demonstrations: {path: x}, comparisons: {path: x}, "
        "prompts: {path: x}}}}"
    )
    plain = parse_manifest(smallest, "x", [f"{path}={value}" for path, value in paths.items()])
    assert run == plain


def test_starter_comments_every_field_within_its_width() -> None:
    lines = starter("demo", Path("rlhfrun.yaml")).split("spec:\n")[1].splitlines()
    assert max(map(len, lines)) <= 100
    fields = [index for index, line in enumerate(lines) if not line.lstrip().startswith("#")]
    assert all(lines[index - 1].lstrip().startswith("#") for index in fields)


def test_write_starter_without_its_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be written"):
        write_starter("demo", tmp_path / "none" / "r.yaml")


def test_write_starter_bad_name_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    with pytest.raises(
        InvalidManifestError, match=r"^name=My Run: not a DNS label; use lower-case"
    ):
        write_starter("My Run", file)
    with pytest.raises(
        InvalidManifestError, match=r"^name=a{31}: has 31 characters; use at most 30"
    ):
        write_starter("a" * 31, file)
    assert not file.exists()


@pytest.mark.parametrize("name", ["true", "null"])
def test_write_starter_name_that_yaml_reads_otherwise_is_quoted(tmp_path: Path, name: str) -> None:
    write_starter(name, tmp_path / "r.yaml")
    assert load_manifest(tmp_path / "r.yaml").metadata.name == name
