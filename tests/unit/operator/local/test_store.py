import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.decide import Observed, decide
from rlhf_operator.errors import SpecError, WorkspaceError, WorkspaceInUseError
from rlhf_operator.local import RunStore, locked
from rlhf_operator.local.store import write_durably
from rlhf_trainer.contract import Workspace


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(Workspace(tmp_path / "workspace"), tmp_path)


def test_load_nothing_is_none(store: RunStore) -> None:
    assert store.load() is None


def test_load_returns_what_was_saved(
    store: RunStore,
    build_run: Callable[..., RLHFRun],
    see: Callable[..., Observed],
    noon: datetime,
) -> None:
    run = build_run("spec.deepspeed.overrides={a: null}", "spec.sft.from={path: x}")
    run = run.model_copy(update={"status": decide(run, see(), noon).status})
    store.save(run)
    assert store.load() == run
    tree = json.loads(store.workspace.run.read_text())
    assert list(tree) == ["apiVersion", "kind", "metadata", "spec", "status", "places"]
    assert tree["spec"]["ppo"]["kl"]["targetNats"] == 6.0
    assert tree["status"]["phases"][0]["startTime"] == "2026-11-24T12:00:00Z"
    assert "finishTime" not in tree["status"]


def test_load_newer_version_s_fields_are_ignored(
    store: RunStore, build_run: Callable[..., RLHFRun]
) -> None:
    store.save(build_run())
    tree = json.loads(store.workspace.run.read_text())
    tree["spec"]["ppo"]["newer"] = tree["newer"] = tree["status"]["newer"] = 1
    store.workspace.run.write_text(json.dumps(tree))
    assert store.load() == build_run()


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "Pod"}', "\x00"])
def test_load_nonsense_is_refused(store: RunStore, text: str) -> None:
    store.workspace.root.mkdir()
    store.workspace.run.write_text(text)
    with pytest.raises(SpecError, match="not the state of a run"):
        store.load()


def test_write_durably_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    for text in ("one", "two"):
        write_durably(file, text)
        assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_write_durably_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match=r"run\.json: cannot be written"):
        write_durably(tmp_path / "file" / "run.json", "{}")


def test_locked_workspace_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(WorkspaceError, match=r"run\.lock: cannot be written"),
        locked(Workspace(tmp_path / "file")),
    ):
        pytest.fail("held")


def test_locked_workspace_is_refused_until_it_is_given_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    with locked(workspace):
        for _ in range(2):
            with (
                pytest.raises(WorkspaceInUseError, match="in use by another rlhf run"),
                locked(workspace),
            ):
                pytest.fail("held twice")
    with locked(workspace):
        pass
