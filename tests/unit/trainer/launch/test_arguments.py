import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.launch.arguments import Arguments

REQUIRED = ["ppo", "--config", "/etc/rlhf/config.json", "--workspace", "/workspace/run-1"]
CONFIG = {
    "model": {"source": "base"},
    "data": {
        "demonstrations": {"path": "demonstrations.jsonl"},
        "comparisons": {"path": "comparisons.jsonl"},
        "prompts": {"path": "prompts.jsonl"},
    },
}


def test_parse_fills_in_defaults() -> None:
    assert Arguments.parse(REQUIRED) == Arguments(
        phase=Phase.PPO,
        config=Path("/etc/rlhf/config.json"),
        workspace=Path("/workspace/run-1"),
        data_root=Path("/etc/rlhf"),
        iteration=1,
        attempt=1,
        run_name="run-1",
        processes=None,
        metrics_port=8000,
        grace_seconds=300,
    )


@pytest.mark.parametrize("more", [[], ["--processes", "2"]])
def test_to_argv_is_read_back_as_the_same(more: list[str]) -> None:
    given = [*REQUIRED, "--data-root=-data", "--attempt=3", "--run-name=--odd", *more]
    arguments = Arguments.parse(given)
    assert Arguments.parse(arguments.to_argv()) == arguments


def test_paths_are_those_of_the_attempt() -> None:
    arguments = Arguments.parse([*REQUIRED, "--iteration", "2", "--attempt", "3"])
    assert arguments.paths.root == Path("/workspace/run-1/iteration-2/ppo/attempt-3")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        pytest.param(["dpo", *REQUIRED[1:]], "phase='dpo': unknown; use one of", id="phase"),
        pytest.param(REQUIRED[:3], "required: --workspace", id="no workspace"),
        pytest.param([*REQUIRED, "--attempt", "0"], "'0' is not a whole number from 1", id="zero"),
        pytest.param([*REQUIRED, "--attempt", "x"], "'x' is not a whole number", id="no number"),
        pytest.param([*REQUIRED, "--metrics-port", "70000"], "not a port", id="port"),
        pytest.param([*REQUIRED, "--atempt", "2"], "unrecognized arguments", id="unknown option"),
        pytest.param([*REQUIRED, "--iter", "2"], "unrecognized arguments", id="abbreviation"),
    ],
)
def test_parse_wrong_command_line_is_invalid_in_one_line(argv: list[str], problem: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Arguments.parse(argv)
    assert problem in caught.value.message
    assert "--help" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.outcome is Outcome.INVALID


def write(tmp_path: Path, content: Any) -> Arguments:
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return Arguments.parse(["ppo", "--config", str(path), "--workspace", str(tmp_path)])


def test_load_config_reads_the_file(tmp_path: Path) -> None:
    assert write(tmp_path, CONFIG).load_config().model.source == "base"


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        pytest.param("{", "", "Invalid JSON", id="no JSON"),
        pytest.param({**CONFIG, "sed": 1}, "sed=1", "Extra inputs", id="unknown field"),
        pytest.param({**CONFIG, "seed": -1}, "seed=-1", "greater than or equal", id="bound"),
        pytest.param(
            {**CONFIG, "ppo": {"clipRange": "wide"}},
            "ppo.clipRange='wide'",
            "valid number",
            id="type",
        ),
        pytest.param(
            {**CONFIG, "ppo": {"kl": {"controller": "Fixed"}}},
            "",
            "required when ppo.kl.controller is Fixed",
            id="cross-check",
        ),
    ],
)
def test_load_config_mistake_is_invalid_in_one_line(
    tmp_path: Path, content: Any, place: str, problem: str
) -> None:
    arguments = write(tmp_path, content)
    with pytest.raises(InvalidError) as caught:
        arguments.load_config()
    assert caught.value.message.startswith(place or str(arguments.config))
    assert problem in caught.value.message
    assert f"correct it in {arguments.config}" in caught.value.message
    assert "\n" not in caught.value.message


def test_load_config_missing_file_is_invalid(tmp_path: Path) -> None:
    arguments = Arguments.parse(["ppo", "--config", "nowhere.json", "--workspace", str(tmp_path)])
    with pytest.raises(InvalidError, match=r"config=nowhere.json: No such file or directory; name"):
        arguments.load_config()
