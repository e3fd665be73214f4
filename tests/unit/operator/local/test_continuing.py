"""Which data a workspace's run may go on with; the rest is tested with whole runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.errors import SpecError
from rlhf_operator.local import RunStore, open_run
from rlhf_trainer.contract import Workspace

Build = Callable[..., RLHFRun]


def store(workspace: Path, data_root: Path) -> RunStore:
    return RunStore(Workspace(workspace), data_root)


def test_open_other_data_root_is_refused(build_run: Build, tmp_path: Path) -> None:
    root = tmp_path / "runs" / "demo"
    open_run(store(root, tmp_path / "pa"), build_run(), fresh=False)
    with pytest.raises(SpecError) as caught:
        open_run(store(root, Path("/pb")), build_run(), fresh=False)
    assert str(caught.value) == (
        f"data root=/pb: the workspace's run began with the data below {tmp_path}/pa; "
        "use another --workspace, or --fresh to begin anew; or, if it is the same data, moved, "
        "correct places.dataRoot in run.json"
    )
    again = store(root, tmp_path / "pb")
    open_run(again, build_run(), fresh=True)
    assert open_run(again, build_run(), fresh=False) == build_run()


def test_open_data_root_corrected_as_the_message_says_goes_on(
    build_run: Build, tmp_path: Path
) -> None:
    moved = store(tmp_path / "demo", tmp_path / "pb")
    open_run(store(tmp_path / "demo", tmp_path / "pa"), build_run(), fresh=False)
    tree = json.loads(moved.workspace.run.read_text())
    tree["places"]["dataRoot"] = str(tmp_path / "pb")
    moved.workspace.run.write_text(json.dumps(tree))
    assert open_run(moved, build_run(), fresh=False) == build_run()


def test_open_other_data_root_goes_on_where_nothing_is_named_below_it(
    build_run: Build, tmp_path: Path
) -> None:
    sets = [f"spec.data.{kind}.path=/data/{kind}" for kind in ("demonstrations", "comparisons")]
    run = build_run(*sets, "spec.data.prompts={hub: org/prompts}", "spec.model.source=org/model")
    open_run(store(tmp_path / "demo", tmp_path / "pa"), run, fresh=False)
    elsewhere = tmp_path / "pb"
    assert open_run(store(tmp_path / "demo", elsewhere), run, fresh=False) == run
    (elsewhere / "org" / "model").mkdir(parents=True)
    with pytest.raises(SpecError, match="data root="):
        open_run(store(tmp_path / "demo", elsewhere), run, fresh=False)


@pytest.mark.parametrize(
    ("workspace", "data_root"),
    [
        pytest.param("old/runs/demo", "old/../old", id="other spelling"),
        pytest.param("old/runs/demo", "link", id="link"),
        pytest.param("new/demo", "old", id="workspace moved"),
        pytest.param("new/runs/demo", "new", id="both moved"),
    ],
)
def test_open_same_data_goes_on(
    build_run: Build, tmp_path: Path, workspace: str, data_root: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "old")
    first = store(tmp_path / "old" / "runs" / "demo", tmp_path / "old")
    open_run(first, build_run(), fresh=False)
    now = store(tmp_path / workspace, tmp_path / data_root)
    now.workspace.root.mkdir(parents=True, exist_ok=True)
    first.workspace.run.rename(now.workspace.run)
    assert open_run(now, build_run(), fresh=False) == build_run()


def test_open_state_without_places_is_taken_as_it_is(build_run: Build, tmp_path: Path) -> None:
    now = store(tmp_path, tmp_path / "pb")
    open_run(store(tmp_path, tmp_path / "pa"), build_run(), fresh=False)
    tree = json.loads(now.workspace.run.read_text())
    del tree["places"]
    now.workspace.run.write_text(json.dumps(tree))
    assert open_run(now, build_run(), fresh=False) == build_run()
