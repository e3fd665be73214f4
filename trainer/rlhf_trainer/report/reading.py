"""Reads a workspace. What cannot be read counts as missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import (
    AttemptPaths,
    HistoryRecord,
    Phase,
    Progress,
    Result,
    Workspace,
)
from rlhf_trainer.report.facts import PhaseFacts, RunFacts, RunFile, RunStatus, Sample

_Model = TypeVar("_Model", bound=BaseModel)

MAXIMUM_SAMPLES = 64
"""More samples than these would only make the page slow."""

_NOT_SHOWN = "podTemplate"
"""Left out of the configuration that is shown: its environment may hold secrets."""

_JSON_OBJECT = TypeAdapter(dict[str, JsonValue])


def read_run(root: Path) -> RunFacts:
    """Read all that the workspace tells about the newest iteration of its run.

    Its folder is named in full: what is advised holds wherever it is read, and `.` has no name.
    """
    root = root.resolve()
    workspace = Workspace(root)
    run = _read(workspace.run, RunFile) or RunFile()
    iteration = max(_numbers(root, "iteration"), default=1)
    attempts = {phase: _attempts(workspace, iteration, phase) for phase in Phase}
    phases = tuple(
        _phase(phase, attempts[phase], run.status, iteration)
        for phase in Phase
        if attempts[phase] or run.status.phase(iteration, phase)
    )
    newest = [paths for phase in reversed(Phase) for paths in reversed(attempts[phase])]
    facts = RunFacts(
        name=run.metadata.name or root.name,
        workspace=root,
        iteration=iteration,
        phases=phases,
        status=run.status,
        samples=tuple(_samples(attempts[Phase.EVALUATION])),
    )
    return _with_config(facts, run.spec, newest)


def _phase(
    phase: Phase, attempts: Sequence[AttemptPaths], status: RunStatus, iteration: int
) -> PhaseFacts:
    results = [_read(paths.result, Result) for paths in attempts]
    logs = [paths.log for paths in attempts if paths.log.exists()]
    return PhaseFacts(
        phase=phase,
        status=status.phase(iteration, phase),
        attempts=len(attempts),
        result=results[-1] if results else None,
        duration_seconds=sum(result.duration_seconds for result in results if result),
        history=tuple(_joined(_lines(paths.history, HistoryRecord) for paths in attempts)),
        progress=_read(attempts[-1].progress, Progress) if attempts else None,
        log=logs[-1] if logs else None,
    )


def _joined(histories: Iterable[list[HistoryRecord]]) -> list[HistoryRecord]:
    """Join the histories of attempts: each goes on from a checkpoint of the one before it."""
    joined: list[HistoryRecord] = []
    for history in histories:
        if history:
            joined = [record for record in joined if record.step < history[0].step]
            joined += history
    return joined


def _with_config(
    facts: RunFacts, spec: Mapping[str, JsonValue], newest: Iterable[AttemptPaths]
) -> RunFacts:
    """Add the configuration: the manifest's if there is one, else the newest attempt's."""
    given = dict(spec) or next(filter(None, map(_config_file, newest)), {})
    shown = {name: value for name, value in given.items() if name != _NOT_SHOWN}
    known = {field.alias or name for name, field in TrainingConfig.model_fields.items()}
    training = {name: value for name, value in given.items() if name in known}
    try:
        config = TrainingConfig.model_validate(training)
    except ValidationError:
        config = None
    return replace(facts, config=config, shown_config=shown)


def _config_file(paths: AttemptPaths) -> dict[str, JsonValue]:
    with suppress(OSError, ValueError):
        return _JSON_OBJECT.validate_json(paths.config.read_bytes())
    return {}


def _samples(attempts: Sequence[AttemptPaths]) -> list[Sample]:
    """Return the samples of the newest attempt that left any."""
    found = (_lines(paths.samples, Sample) for paths in reversed(attempts))
    return next(filter(None, found), [])[:MAXIMUM_SAMPLES]


def _attempts(workspace: Workspace, iteration: int, phase: Phase) -> list[AttemptPaths]:
    numbers = sorted(_numbers(workspace.phase(iteration, phase), "attempt"))
    return [workspace.attempt(iteration, phase, number) for number in numbers]


def _numbers(folder: Path, prefix: str) -> Iterator[int]:
    for path in folder.glob(f"{prefix}-*"):
        number = path.name.removeprefix(f"{prefix}-")
        if number.isdecimal():
            yield int(number)


def _read(path: Path, model: type[_Model]) -> _Model | None:
    with suppress(OSError, ValidationError):
        return model.model_validate_json(path.read_bytes())
    return None


def _lines(path: Path, model: type[_Model]) -> list[_Model]:
    """Read JSON lines; one that is cut off or foreign is left out."""
    records: list[_Model] = []
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            with suppress(ValidationError):
                records.append(model.model_validate_json(line))
    return records
