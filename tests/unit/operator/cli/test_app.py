"""The command line as a user meets it, without a trainer."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlhf_operator.cli.app import app, main
from rlhf_operator.cli.exit_codes import exit_code_of
from rlhf_operator.errors import (
    InvalidManifestError,
    OperatorError,
    SpecError,
    TrainerError,
    WorkspaceInUseError,
)

HEAVY = ("torch", "transformers", "numpy", "datasets", "deepspeed", "matplotlib", "kubernetes")

COMMANDS = ("run", "validate", "plan", "init", "report", "agreement")

LOADED = f"""
import sys
from rlhf_operator.cli.app import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write("\\nheavy:" + " ".join(name for name in {HEAVY!r} if name in sys.modules))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["validate", "none.yaml"], id="validate"),
        pytest.param(["run", "none.yaml"], id="run"),
        pytest.param(["plan", "none.yaml"], id="plan"),
    ],
)
def test_app_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], check=True, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "heavy:"


def test_app_help_names_every_command() -> None:
    out = CliRunner().invoke(app, ["--help"]).output
    assert all(command in out for command in COMMANDS)


def test_app_without_arguments_shows_the_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


def test_init_writes_a_valid_manifest_and_refuses_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init", "demo"]).exit_code == 0
    text = Path("rlhfrun.yaml").read_text()
    assert "  name: demo\n" in text
    again = CliRunner().invoke(app, ["init", "other"])
    assert "rlhfrun.yaml: exists already" in str(again.exception)
    assert Path("rlhfrun.yaml").read_text() == text


@pytest.mark.parametrize("command", ["report", "agreement"])
def test_command_of_the_trainer_is_run_with_its_exit_code(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(f"rlhf_operator.cli.app.{command.upper()}", "stand_in")
    (tmp_path / "stand_in.py").write_text("import sys; sys.exit(int(sys.argv[1]) + 4)")
    assert CliRunner().invoke(app, [command, "7"]).exit_code == 11


@pytest.mark.parametrize(
    ("command", "option"), [("report", "--output=there.html"), ("agreement", "--split=test")]
)
def test_option_is_handed_to_the_trainer(
    command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(f"rlhf_operator.cli.app.{command.upper()}", "stand_in")
    (tmp_path / "stand_in.py").write_text(
        f"import sys; sys.exit(sys.argv[1:] != ['runs/x', '{option}'])"
    )
    assert CliRunner().invoke(app, [command, "runs/x", *option.split("=")]).exit_code == 0


def test_main_error_is_its_message_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rlhf", "run", "/none.yaml"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 20
    assert capsys.readouterr().err == (
        "manifest=/none.yaml: cannot be read (No such file or directory); check the path\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError(field="a", problem="b", fix="c"), 20),
        (InvalidManifestError([]), 20),
        (WorkspaceInUseError("x"), 42),
        (TrainerError("x"), 1),
    ],
)
def test_exit_code_of_an_error(error: OperatorError, code: int) -> None:
    assert exit_code_of(error) == code
