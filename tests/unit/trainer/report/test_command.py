"""The report as a command: what it prints, and its exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.report.__main__ import main


def test_module_writes_the_report_and_says_where(made_up: Any, tmp_path: Path) -> None:
    made_up.sft()
    output = tmp_path / "elsewhere.html"
    root = made_up.workspace.root
    command = [sys.executable, "-X", "importtime", "-m", "rlhf_trainer.report", str(root)]
    ended = subprocess.run(
        [*command, f"--output={output}"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == f"{output}\n"
    assert "<h1>run</h1>" in output.read_text(encoding="utf-8")
    assert "| torch" not in ended.stderr


def test_module_place_that_cannot_be_written_exits_20_with_one_line(
    made_up: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up.sft()
    root = made_up.workspace.root
    made_up.workspace.report.mkdir()
    fix = "set the rights of the folder or make room, or name another place with --output=FILE\n"
    assert main([str(root)]) == 20
    assert capsys.readouterr().err == (
        f"{root}/report.html: the report cannot be made (Is a directory); {fix}"
    )
    assert main([str(root), f"--output={tmp_path}/none/report.html"]) == 20
    assert capsys.readouterr().err == (
        f"{tmp_path}/none/report.html: the report cannot be made (No such file or directory); {fix}"
    )


def test_module_missing_workspace_exits_20_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlhf_trainer.report", str(tmp_path / "nowhere")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 20
    assert ended.stderr == (
        f"workspace={tmp_path}/nowhere: no such folder; name the folder of a run\n"
    )


def test_folder_without_a_run_is_refused_and_its_files_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").write_text("another report", "utf-8")
    assert main([str(tmp_path)]) == 20
    assert capsys.readouterr().err == (
        f"workspace={tmp_path}: holds no run (run.json, iteration-1); name the folder of a run\n"
    )
    assert (tmp_path / "report.html").read_text("utf-8") == "another report"
    (tmp_path / "iteration-1").mkdir()
    assert main([str(tmp_path)]) == 0
