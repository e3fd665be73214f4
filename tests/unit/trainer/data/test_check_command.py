"""The check of a run's data as a command: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.data import check
from rlhf_trainer.data.check import main
from rlhf_trainer.errors import PhaseError

Jsonl = Callable[..., Path]
Document = dict[str, Any]


def run_main(
    document: Document, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, Document]:
    config = data_root / "config.json"
    config.write_text(json.dumps(document), "utf-8")
    code = main(["--config", str(config), "--data-root", str(data_root)])
    return code, json.loads(capsys.readouterr().out)


def test_command_on_sound_data_exits_0(
    document: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = run_main(document, tmp_path, capsys)
    assert (code, output["problems"]) == (0, [])
    assert output["summary"]["agreement"]["items"] == 40


def test_command_on_wrong_data_exits_20(
    document: Document, jsonl: Jsonl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonl("d.jsonl", {"text": ""}, {"text": "a"})
    code, output = run_main(document, tmp_path, capsys)
    assert code == 20
    assert output["problems"] == [
        "d.jsonl:1 text='': is empty; write some text, or remove the record"
    ]
    assert output["summary"]["demonstrations"]["format"] == "text, text"


def test_command_on_a_wrong_configuration_exits_20(
    document: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document["seed"] = -1
    code, output = run_main(document, tmp_path, capsys)
    assert code == 20
    assert output == {
        "problems": [
            "spec.seed=-1: Input should be greater than or equal to 0; correct it in the manifest"
        ],
        "summary": {},
    }


def test_command_on_data_that_cannot_be_looked_at_names_its_setting(
    document: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document["data"]["prompts"]["path"] = document["data"]["demonstrations"]["path"] = "a" * 300
    document["sft"] = {"from": {"path": "a" * 300}}
    code, output = run_main(document, tmp_path, capsys)
    assert code == 20
    assert [line.partition("=")[0] for line in output["problems"]] == [
        "spec.sft.from.path",
        "spec.data.demonstrations.path",
        "spec.data.prompts.path",
    ]


def test_command_as_a_module_knows_a_model_of_its_own(document: Document, tmp_path: Path) -> None:
    document["sft"] = {"from": {"path": "models/x"}}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document), "utf-8")
    command = [sys.executable, "-m", "rlhf_trainer.data.check", "--config", str(config)]
    done = subprocess.run(
        [*command, "--data-root", str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 20, done.stderr
    assert "holds no model" in done.stdout


def test_command_without_a_configuration_exits_20(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "c.json"), "--data-root", str(tmp_path)]) == 20
    (line,) = json.loads(capsys.readouterr().out)["problems"]
    assert line == f"--config={tmp_path}/c.json: No such file or directory; name a readable file"


def test_command_that_cannot_reach_a_source_exits_1(
    document: Document,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise PhaseError(
            "spec.data.prompts.hub='a/b': the hub cannot be reached; check the network"
        )

    monkeypatch.setattr(check, "check_data", fail)
    code, output = run_main(document, tmp_path, capsys)
    assert code == 1
    assert output["problems"] == [
        "spec.data.prompts.hub='a/b': the hub cannot be reached; check the network"
    ]


@pytest.mark.parametrize("command", ["check", "agreement_command"])
def test_commands_import_neither_torch_nor_transformers(
    document: Document, tmp_path: Path, command: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document), "utf-8")
    arguments = {
        "check": ["--config", str(config), "--data-root", str(tmp_path)],
        "agreement_command": [str(tmp_path / "c.jsonl")],
    }[command]
    code = (
        f"import sys; from rlhf_trainer.data.{command} import main; code = main({arguments!r}); "
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow'} & sys.modules.keys(); "
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
