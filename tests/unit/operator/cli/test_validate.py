import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlhf_operator.cli.app import app
from rlhf_operator.cli.starter import starter

Validate = Callable[[str], Result]

CHECK = """
import argparse, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--data-root")
arguments = parser.parse_args()
assert json.load(open(arguments.config))["seed"] == 5
open("seen.txt", "w").write(arguments.data_root)
OUTPUT
"""


def printing(problems: list[str], summary: dict[str, object], code: int) -> str:
    check = json.dumps({"problems": problems, "summary": summary})
    return f"print({check!r}); sys.exit({code})"


@pytest.fixture
def validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Validate:
    """Run `rlhf validate` with a data check that prints what it is told to."""

    def command(output: str) -> Result:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr("rlhf_operator.cli.validate.DATA_CHECK", "stand_in_check")
        (tmp_path / "stand_in_check.py").write_text(CHECK.replace("OUTPUT", output))
        (tmp_path / "rlhfrun.yaml").write_text(starter("demo", Path("rlhfrun.yaml")))
        return CliRunner().invoke(app, ["validate", "rlhfrun.yaml", "--set", "spec.seed=5"])

    return command


def test_validate_valid_data_is_summed_up(validate: Validate, tmp_path: Path) -> None:
    comparisons = {"records": 3, "kappa": 0.51234567, "ignored": [], "passed": True}
    summary = {"comparisons": comparisons, "prompts": ["a", "b"], "gate": None}
    done = validate(printing([], summary, 0))
    assert done.exit_code == 0
    assert done.stdout == (
        "rlhfrun.yaml: valid; run demo\n"
        "  comparisons: records 3, kappa 0.5123, passed yes\n"
        "  prompts: a and b\n"
        "  gate: none\n"
    )
    assert (tmp_path / "seen.txt").read_text() == str(tmp_path)


def test_validate_unreachable_source_keeps_its_exit_code(validate: Validate) -> None:
    done = validate(printing(["spec.data.prompts.hub=a/b: unreachable; try again"], {}, 1))
    assert done.exit_code == 1
    assert "unreachable" in done.stderr


def test_validate_problems_are_a_line_each_and_exit_20(validate: Validate) -> None:
    done = validate(printing(["prompts.jsonl:3: prompt: empty; write one", "another"], {}, 20))
    assert done.exit_code == 20
    assert done.stderr == "prompts.jsonl:3: prompt: empty; write one\nanother\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param("raise OSError('no disk')", "exit code 1: OSError: no disk", id="crash"),
        pytest.param("sys.exit(3)", "exit code 3: no message", id="silent"),
        pytest.param("print('hello')", "exit code 0: hello", id="nonsense"),
        pytest.param(printing([], {}, 20), "exit code 20: {", id="code without a problem"),
        pytest.param(printing(["x"], {}, 0), "exit code 0: {", id="problem without a code"),
    ],
)
def test_validate_broken_check_is_the_trainer_s_error(
    validate: Validate, output: str, message: str
) -> None:
    assert message in str(validate(output).exception)
