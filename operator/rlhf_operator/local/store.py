"""`run.json`: the whole run, spec and status, as the last pass left it, and where its data lies.

Written to a temporary file, flushed to the disk and renamed: after a crash at any point it is
either the old one or the new one.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.model import ApiModel
from rlhf_operator.errors import SpecError, WorkspaceError
from rlhf_trainer.contract import Workspace

M = TypeVar("M", bound=ApiModel)


class Places(ApiModel):
    """Where a run's folders lay when it was last written."""

    workspace: Path
    data_root: Path

    @property
    def way_to_data(self) -> str:
        """How the data is found from the workspace: it stays when both are moved as a whole."""
        return os.path.relpath(self.data_root, self.workspace)


class _Placed(ApiModel):
    places: Places | None = None


@dataclass(frozen=True)
class RunStore:
    """The status store of `rlhf run`."""

    workspace: Workspace
    data_root: Path
    """What the manifest's paths are relative to."""

    def load(self) -> RLHFRun | None:
        """Return the workspace's run, or None if it has none.

        Raises:
            SpecError: the file is not a run.
        """
        return self._read(RLHFRun)

    def load_places(self) -> Places | None:
        """Return where the workspace's run has its folders, or None if nobody wrote that down.

        Raises:
            SpecError: the file is not a run.
        """
        placed = self._read(_Placed)
        return placed.places if placed else None

    @property
    def places(self) -> Places:
        """Where its folders are now, however they are spelled."""
        folders = (self.workspace.root, self.data_root)
        workspace, data_root = (Path(os.path.realpath(folder)) for folder in folders)
        return Places(workspace=workspace, data_root=data_root)

    def save(self, run: RLHFRun) -> None:
        """Replace the workspace's run."""
        tree = run.model_dump(mode="json", by_alias=True)
        tree["status"] = run.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        tree["places"] = self.places.model_dump(mode="json", by_alias=True)
        write_durably(self.workspace.run, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")

    def _read(self, model: type[M]) -> M | None:
        try:
            text = self.workspace.run.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            # A newer version may have written fields that this one does not know.
            return model.model_validate_json(text, extra="ignore")
        except (ValidationError, ValueError) as error:
            raise SpecError(
                field="run.json",
                value=self.workspace.run,
                problem="not the state of a run",
                fix="use another --workspace, or --fresh to begin anew",
            ) from error


def write_durably(path: Path, text: str) -> None:
    """Replace a file's content so that a crash leaves the old or the new one, and nothing else.

    Raises:
        WorkspaceError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which path it was that could not be written."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"{path}: cannot be written ({error.strerror}); "
            "make room or set its rights, or use another --workspace"
        ) from error


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
