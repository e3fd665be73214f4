"""`rlhf validate`: the manifest's fields, then the data it names, as Preparation would check it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import typer
from pydantic import BaseModel, Field, JsonValue, ValidationError

from rlhf_operator.api import RLHFRun, RunOutcome
from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.trainer import DATA_CHECK, capture
from rlhf_operator.errors import TrainerError


class DataCheck(BaseModel):
    """What the trainer's data check prints."""

    problems: list[str] = Field(default_factory=list)
    summary: dict[str, JsonValue] = Field(default_factory=dict)


def validate_manifest(file: Path, overrides: Sequence[str]) -> None:
    """Print every problem of a manifest and its data, or what was found to be valid."""
    run = load_manifest(file, overrides)
    check = _check_data(run, file.absolute().parent)
    for problem in check.problems:
        typer.echo(problem, err=True)
    if check.problems:
        raise typer.Exit(RunOutcome.INVALID.exit_code)
    typer.echo(f"{file}: valid; run {run.metadata.name}")
    for name, value in check.summary.items():
        typer.echo(f"  {name}: {_in_words(value)}")


def _check_data(run: RLHFRun, data_root: Path) -> DataCheck:
    invalid = RunOutcome.INVALID.exit_code
    with NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as config:
        config.write(run.spec.training().model_dump_json(by_alias=True))
        config.flush()
        arguments = ("--config", config.name, "--data-root", str(data_root))
        text = capture(DATA_CHECK, *arguments, accepted=(0, invalid))
    try:
        return DataCheck.model_validate_json(text)
    except ValidationError as error:
        raise TrainerError(f"python -m {DATA_CHECK}: it printed no JSON: {text[:200]!r}") from error


def _in_words(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
