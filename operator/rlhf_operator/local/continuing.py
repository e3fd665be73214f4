"""Whether a workspace's run may go on with today's manifest, and how one begins anew."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_operator.api import RLHFRun, placed
from rlhf_operator.api.changes import forbidden_change
from rlhf_operator.errors import SpecError, WorkspaceError, shown
from rlhf_operator.local.processes import KILL_TIMEOUT_SECONDS, kill_and_wait
from rlhf_operator.local.store import RunStore
from rlhf_trainer.contract import Workspace

_FIX = "use another --workspace, or --fresh to begin anew"


def open_run(store: RunStore, wanted: RLHFRun, *, fresh: bool) -> RLHFRun:
    """Return the run to go on with: the workspace's, if it is the one that is wanted, or a new one.

    Raises:
        SpecError: the workspace belongs to another run, other data or other hyper-parameters.
        WorkspaceError: it cannot be written, or not be made empty.
    """
    if fresh:
        _clear(store.workspace)
    stored = store.load()
    if stored is None:
        _check_empty(store.workspace)
        store.save(wanted)
        return wanted
    _check_same(stored, wanted)
    _check_data_root(store, wanted)
    if stored.status.outcome is not None:
        return stored
    changed = stored.spec != wanted.spec
    generation = stored.metadata.generation + changed
    run = wanted.model_copy(
        update={
            "metadata": stored.metadata.evolve(generation=generation),
            "status": stored.status,
        }
    )
    if changed:
        store.save(run)
    return run


def _clear(workspace: Workspace) -> None:
    """Remove a run and all it made, and nothing else that may lie in the folder.

    Raises:
        WorkspaceError: something of it cannot be removed.
    """
    # An earlier `rlhf run` that was killed may have left its trainer alive.
    kill_and_wait(workspace.root, KILL_TIMEOUT_SECONDS)
    try:
        # First: a run that says it is complete must not outlast its models.
        workspace.run.unlink(missing_ok=True)
        workspace.report.unlink(missing_ok=True)
        for folder in workspace.root.glob("iteration-*"):
            shutil.rmtree(folder)
    except OSError as error:
        raise WorkspaceError(
            f"{error.filename or workspace.root}: cannot be removed ({error.strerror}); "
            "set its rights, or use another --workspace"
        ) from error


def _check_empty(workspace: Workspace) -> None:
    """Results of a run whose state is lost must not be taken for another one's."""
    if any(workspace.root.glob("iteration-*")):
        raise SpecError(
            field="workspace",
            value=workspace.root,
            problem="holds phases of a run but no run.json",
            fix=_FIX,
        )


def _check_same(stored: RLHFRun, wanted: RLHFRun) -> None:
    if stored.metadata.name != wanted.metadata.name:
        raise SpecError(
            field="metadata.name",
            value=wanted.metadata.name,
            problem=f"the workspace belongs to {stored.metadata.name}",
            fix=_FIX,
        )
    change = forbidden_change(stored.spec, wanted.spec)
    if change is not None:
        raise SpecError(
            field=change.path,
            value=change.after,
            problem=f"the workspace's run began with {shown(change.before)}",
            fix=_FIX,
        )
    due = stored.status.due
    if due is None or not due.attempts:
        return
    specs = (stored.spec, wanted.spec)
    before, after = (placed(spec.placement, due.phase).processes for spec in specs)
    if before != after:
        raise SpecError(
            field="spec.placement.processesPerNode",
            value=after,
            problem=f"{due.phase} has begun with {before} and keeps their number",
            fix=f"use {before} until it is complete",
        )


def _check_data_root(store: RunStore, run: RLHFRun) -> None:
    """Equal paths below another manifest's folder are other data."""
    before, now = store.load_places(), store.places
    if before is None or before.data_root == now.data_root:
        return
    roots = (Path(before.data_root), Path(now.data_root))
    if before.way_to_data != now.way_to_data and _reads_below(run, roots):
        raise SpecError(
            field="data root",
            value=now.data_root,
            problem=f"the workspace's run began with the data below {before.data_root}",
            fix=f"{_FIX}; or, if it is the same data, moved, correct places.dataRoot in run.json",
        )


def _reads_below(run: RLHFRun, roots: Sequence[Path]) -> bool:
    """Return whether anything that a run names lies below its data root, whichever that is."""
    if run.spec.evaluation.judge.entry_point is not None:
        return True  # it is handed the data root
    config = run.spec.training().model_dump(mode="json", by_alias=True)
    if any(not Path(path).is_absolute() for path in _named(config, "path")):
        return True
    # A model that is no folder there is one of the hub.
    return any((root / source).exists() for source in _named(config, "source") for root in roots)


def _named(tree: object, name: str) -> Iterator[str]:
    """Yield all texts under a key, at all depths."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name and isinstance(value, str):
                yield value
            else:
                yield from _named(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _named(value, name)
