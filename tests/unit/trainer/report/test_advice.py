"""What a report advises can be typed as it stands."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.app import app
from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.data import agreement_command
from rlhf_trainer.report.advice import Advice, advise
from rlhf_trainer.report.reading import read_run
from rlhf_trainer.report.story import tell

SAME_OPTIONS = "rlhfrun.yaml stands for this run's manifest; repeat the --set options of this run."
PHASES = (Phase.SFT, Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION)
ENDS = [
    *[(phase, outcome) for phase in PHASES for outcome in Outcome],
    (Phase.PREPARATION, Outcome.GATE_FAILED),
    (Phase.PREPARATION, Outcome.INVALID),
]


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """Read a command as the command line does; return its name and what it is given."""
    program, name, *arguments = shlex.split(command)
    assert program == "rlhf"
    commands: Any = get_command(app)
    return name, commands.commands[name].make_context(name, arguments).params


def advised(run: Any) -> Advice:
    facts = read_run(run.workspace.root)
    return advise(facts, tell(facts))


def write_manifest(run: Any, folder: Path) -> None:
    manifest = {
        "apiVersion": "rlhf.dev/v1alpha1",
        "kind": "RLHFRun",
        "metadata": {"name": "run"},
        "spec": run.spec,
    }
    (folder / "rlhfrun.yaml").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(("phase", "outcome"), ENDS)
@pytest.mark.parametrize("is_known", [True, False])
def test_advised_command_is_one_that_the_command_line_takes(
    made_up: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
    outcome: Outcome,
    *,
    is_known: bool,
) -> None:
    made_up.end(phase, outcome, "it ended so")
    if is_known:
        made_up.run_file(outcome=outcome.value)
    monkeypatch.chdir(tmp_path)
    write_manifest(made_up, tmp_path)
    advice = advised(made_up)
    assert "rlhfrun.yaml" not in advice.command or advice.text.endswith(SAME_OPTIONS)
    if not advice.command.startswith("rlhf "):
        return
    name, given = parsed(advice.command)
    if name in ("run", "validate"):
        load_manifest(given["file"], given["overrides"] or ())


def test_failed_agreement_gate_advises_what_the_command_shows(
    made_up: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made_up.end(Phase.PREPARATION, Outcome.GATE_FAILED, "it is 0.2")
    made_up.spec["data"]["comparisons"]["path"] = "data/all comparisons.jsonl"
    made_up.run_file(outcome="GateFailed")
    advice = advised(made_up)
    assert advice.command == "rlhf agreement 'data/all comparisons.jsonl'"
    assert "items" not in advice.text
    _, given = parsed(advice.command)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    raters = [{"annotator": name, "choice": "chosen"} for name in ("ann", "bob")]
    row = {"prompt": "p", "chosen": "good", "rejected": "bad", "annotations": raters}
    (tmp_path / given["file"]).write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert agreement_command.main([str(given["file"])]) == 0
    assert "Fleiss' kappa" in capsys.readouterr().out


@pytest.mark.parametrize("source", [{"hub": "a/b"}, {"path": "folder", "split": "test"}])
def test_failed_agreement_gate_advises_no_command_that_cannot_read_the_data(
    made_up: Any, source: dict[str, str]
) -> None:
    made_up.end(Phase.PREPARATION, Outcome.GATE_FAILED, "it is 0.2")
    made_up.spec["data"]["comparisons"] = source
    made_up.run_file(outcome="GateFailed")
    advice = advised(made_up)
    assert advice.command == ""
    assert "annotated again" in advice.text
