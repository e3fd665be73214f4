"""`rlhf validate`: the manifest's fields, then the data it names, as Preparation would check it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import typer
from pydantic import BaseModel, Field, JsonValue, ValidationError

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.trainer import DATA_CHECK, capture, failure


class DataCheck(BaseModel):
    """What the trainer's data check prints."""

    problems: list[str] = Field(default_factory=list)
    summary: dict[str, JsonValue] = Field(default_factory=dict)


def validate_manifest(file: Path, overrides: Sequence[str]) -> int:
    """Print every problem of a manifest and its data, or what is valid; return the exit code.

    Raises:
        InvalidManifestError: the manifest itself has problems.
        TrainerError: the data could not be checked.
    """
    run = load_manifest(file, overrides)
    code, check = _check_data(run, file.absolute().parent)
    for problem in check.problems:
        typer.echo(problem, err=True)
    if check.problems:
        return code
    typer.echo(f"{file}: valid; run {run.metadata.name}")
    for name, value in check.summary.items():
        typer.echo(f"  {name}: {_in_words(value)}")
    return code


def _check_data(run: RLHFRun, data_root: Path) -> tuple[int, DataCheck]:
    with NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as config:
        config.write(run.spec.training().model_dump_json(by_alias=True))
        config.flush()
        done = capture(DATA_CHECK, "--config", config.name, "--data-root", str(data_root))
    try:
        check = DataCheck.model_validate_json(done.stdout)
    except ValidationError as error:
        raise failure(DATA_CHECK, done) from error
    if (done.returncode == 0) == bool(check.problems):
        raise failure(DATA_CHECK, done)
    return done.returncode, check


def _in_words(value: JsonValue) -> str:
    match value:
        case dict():
            known = {name: part for name, part in value.items() if part not in (None, [])}
            return ", ".join(f"{name} {_in_words(part)}" for name, part in known.items())
        case list():
            return " and ".join(_in_words(part) for part in value)
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case _:
            return "none" if value is None else str(value)
