"""What a user of `rlhf run` sees: output, exit code, and what is left in the workspace."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_operator.api import RunStatus
from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.run import run_manifest
from rlhf_operator.errors import SpecError, WorkspaceError
from rlhf_operator.local.processes import members
from rlhf_trainer.contract import Phase, Workspace

FAKE_LAUNCHER = (sys.executable, str(Path(__file__).with_name("fake_launcher.py")))

Run = Callable[..., int]


@pytest.fixture
def run(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`rlhf run` in this process, its report a stand-in."""

    def report(module: str, root: str) -> subprocess.CompletedProcess[str]:
        Workspace(Path(root)).report.write_text("<html>")
        return subprocess.CompletedProcess([module], 0)

    monkeypatch.setattr("rlhf_operator.cli.run.capture", report)

    def command(*overrides: str, fresh: bool = False) -> int:
        wanted = load_manifest(bench.manifest, overrides)
        root = bench.workspace.root
        return run_manifest(wanted, bench.folder, root, fresh=fresh, launcher=FAKE_LAUNCHER)

    return command


def test_run_completed_sums_up(run: Run, bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plan(ppo=[{"result": {"metrics": {"klNats": 4.25}, "model_path": "x/model"}}])
    assert run() == 0
    out = capsys.readouterr().out
    assert f"demo begins in {bench.workspace.root}." in out
    assert "PPO starts" in out
    assert "klNats 4.25" in out
    assert "demo completed: all phases are done.\n" in out
    assert f"Policy: {bench.workspace.root}/x/model\n" in out
    assert f"Report: {bench.workspace.report}\n" in out


def test_run_again_re_uses_what_is_there(
    run: Run, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.plan(sft=[{"exit": 11, "result": {"message": "agreement 0.1 is below 0.4"}}])
    assert run() == 11
    first = capsys.readouterr().out
    before = bench.workspace.run.read_text()
    assert run() == 11
    out = capsys.readouterr().out
    assert (
        f"demo has already ended in {bench.workspace.root}: nothing is run again; "
        "to run it again, use --fresh, or another --workspace.\n"
    ) in out
    assert "Why: agreement 0.1 is below 0.4" in out
    assert out.split("\n", 1)[1] in first
    assert bench.workspace.run.read_text() == before


def test_run_other_hyper_parameters_are_refused(run: Run, bench: Any) -> None:
    assert run() == 0
    with pytest.raises(SpecError) as caught:
        run("spec.ppo.learningRate=1e-3")
    assert str(caught.value) == (
        "spec.ppo.learningRate=0.001: the workspace's run began with 9e-06; "
        "use another --workspace, or --fresh to begin anew"
    )
    assert bench.stored().spec.ppo.learning_rate == 9e-6


def test_run_other_name_is_refused(run: Run) -> None:
    assert run() == 0
    with pytest.raises(SpecError, match=r"metadata\.name=other: the workspace belongs to demo"):
        run("metadata.name=other")


def test_run_fresh_begins_anew_and_leaves_other_files(run: Run, bench: Any) -> None:
    assert run() == 0
    note = bench.workspace.root / "notes.txt"
    note.write_text("mine")
    assert run("spec.seed=7", fresh=True) == 0
    assert bench.stored().spec.seed == 7
    assert note.exists()


def test_run_fresh_that_is_cut_short_leaves_no_completed_run(
    run: Run, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run() == 0
    models = bench.attempt(Phase.SFT).root

    def rmtree(folder: Path) -> None:
        models.rename(folder / "half-removed")
        raise PermissionError(13, "Permission denied", str(models))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", rmtree)
        with pytest.raises(WorkspaceError) as caught:
            run(fresh=True)
    assert str(caught.value) == (
        f"{models}: cannot be removed (Permission denied); set its rights, "
        "or use another --workspace"
    )
    with pytest.raises(SpecError, match="or --fresh to begin anew"):
        run()
    assert run(fresh=True) == 0


def test_run_phases_without_state_are_refused(run: Run, bench: Any) -> None:
    assert run() == 0
    bench.workspace.run.unlink()
    with pytest.raises(SpecError, match=r"holds phases of a run but no run\.json"):
        run()


def test_run_unreadable_state_is_refused(run: Run, bench: Any) -> None:
    bench.workspace.root.mkdir()
    bench.workspace.run.write_text('{"kind": "RLHF')
    with pytest.raises(SpecError, match="not the state of a run"):
        run()


def test_run_changed_policy_goes_on_with_a_new_generation(run: Run, bench: Any) -> None:
    bench.open()
    assert run("spec.runPolicy.backoffLimit=5", "spec.guard.kl.limitNats=9") == 0
    assert bench.stored().metadata.generation == 2
    assert bench.stored().status.observed_generation == 2
    assert bench.stored().spec.guard.kl.limit_nats == 9


def test_run_other_number_of_processes_within_a_phase_is_refused(run: Run, bench: Any) -> None:
    bench.plan(sft=[{"wait": True}])
    backend = bench.backend()
    bench.listener.at_look = lambda status: setattr(
        backend, "suspended", status.phases[1].attempts == 1
    )
    bench.drive(backend=backend)
    with pytest.raises(SpecError, match="SFT has begun with 1 and keeps their number"):
        run("spec.placement.processesPerNode=2")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("spec.placement.pool=a100", "use one of: local", id="pool"),
        pytest.param("spec.placement.nodes=2", "use at most 1, or another pool", id="nodes"),
    ],
)
def test_run_what_one_machine_cannot_is_refused(
    run: Run, bench: Any, override: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        run(override, "spec.workspace.accessMode=ReadWriteMany")
    assert not bench.workspace.root.exists()


def test_run_failed_report_is_said_and_changes_nothing(
    run: Run, bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("rlhf_operator.cli.run.REPORT", "rlhf_trainer.no_such_module")
    bench.plan(preparation=[{"exit": 20}])
    assert run() == 20
    assert "The report could not be written: " in capsys.readouterr().out


@pytest.fixture
def command(bench: Any) -> Iterator[subprocess.Popen[str]]:
    """`rlhf run` as a process of its own, in the midst of its SFT phase."""
    bench.plan(sft=[{"wait": True}])
    process = bench.start()
    bench.wait_for(bench.attempt(Phase.SFT).progress)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_interrupted_says_how_to_go_on(
    command: subprocess.Popen[str], bench: Any, number: signal.Signals
) -> None:
    command.send_signal(number)
    out, _ = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "demo was interrupted before SFT was complete; the same command goes on." in out
    assert bench.attempt(Phase.SFT).result.exists()
    assert bench.stored().status.outcome is None


def test_run_interrupted_twice_ends_at_once(bench: Any) -> None:
    bench.plan(sft=[{"wait": True, "deaf": True}])
    process = bench.start()
    bench.wait_for(bench.attempt(Phase.SFT).progress)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    for line in process.stdout:
        if "interrupt again" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ending the phase at once" in out


@pytest.mark.fault(
    "two `rlhf run` on one workspace",
    "the second is refused with a sentence",
)
def test_run_workspace_in_use_is_refused(command: subprocess.Popen[str], bench: Any) -> None:
    second = bench.start()
    _, error = second.communicate(timeout=60)
    assert second.returncode == 42
    assert error == (
        f"workspace={bench.workspace.root}: in use by another rlhf run (process {command.pid}); "
        "wait for it, stop it, or use another --workspace\n"
    )


def test_run_killed_and_repeated_adopts_what_is_alive(
    command: subprocess.Popen[str], bench: Any
) -> None:
    command.kill()
    command.communicate()
    backend, live = bench.backend(), []

    def look(status: RunStatus) -> None:
        live.append(status.live)
        backend.suspended = True

    bench.listener.at_look = look
    status = bench.drive(backend=backend)
    assert live[0].key == (1, Phase.SFT, 1)
    assert [phase.attempts for phase in status.phases] == [1, 1, 0, 0, 0]
    assert bench.attempt(Phase.SFT).result.exists()


@pytest.mark.parametrize("spelling", ["beside/../workspace", "link"])
def test_run_killed_and_repeated_under_another_spelling_adopts_what_is_alive(
    bench: Any, spelling: str
) -> None:
    (bench.folder / "beside").mkdir()
    (bench.folder / "link").symlink_to(bench.workspace.root)
    bench.plan(sft=[{"wait": True}])
    first = bench.start(bench.folder / spelling)
    bench.wait_for(bench.attempt(Phase.SFT).progress)
    first.kill()
    first.communicate()
    marked = members(bench.workspace.root)
    second = bench.start()
    for line in second.stdout:
        if "SFT step=3/6" in line:
            break
    assert len(marked) == 1
    assert members(bench.workspace.root) == marked
    assert [phase.attempts for phase in bench.stored().status.phases] == [1, 1, 0, 0, 0]
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=60)
    assert second.returncode == 130
