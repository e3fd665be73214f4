"""Every exit code of the contract, from real phases through the launcher.

Each by 1 or by 2 ranks, whichever is harder for it; with RLHF_TEST_MATRIX=all by both.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import Ended, Launching
from safetensors.torch import load_file, save_file
from toy import MEMORY_HOG, make_memory_hog, make_run, training_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_trainer.contract import AttemptPaths, Outcome, Phase
from rlhf_trainer.contract.outcomes import MAXIMUM_RESULT_BYTES

HERE = Path(__file__).parent
SICK_LAUNCHER = (
    "import sys; from rlhf_trainer.launch.launcher import main; "
    "sys.exit(main(sys.argv[1:], module='sick_phase'))"
)
ALL = os.environ.get("RLHF_TEST_MATRIX") == "all"
Trained = tuple[Launching, dict[Phase, Ended]]
BREACH = {
    "ppo": {
        "learningRate": 3e-2,
        "totalEpisodes": 16 * 12,
        "kl": {"coefficient": 0, "controller": "Fixed"},
    },
    "guard": {"kl": {"limitNats": 0.5}},
}
ENDLESS = {"sft": {"maximumSteps": None, "epochs": 1000}}
DATA_LIMIT_BYTES = 4 * 2**30
STARTED_SECONDS = 300


def ranks(count: int) -> pytest.MarkDecorator:
    """Say by how many ranks a test's phases are run."""
    counts = (1, 2) if ALL else (count,)
    return pytest.mark.parametrize("trained", counts, ids=str, indirect=True)


def wait_for_history(launcher: subprocess.Popen[str], paths: AttemptPaths) -> None:
    deadline = time.monotonic() + STARTED_SECONDS
    while not has_history(paths):
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        assert time.monotonic() < deadline, f"no step within {STARTED_SECONDS} s"
        time.sleep(0.1)  # noqa: TID251 - waits for another process, which cannot call back


def has_history(paths: AttemptPaths) -> bool:
    return paths.history.exists() and bool(paths.history.read_text(encoding="utf-8"))


def ranks_of(launcher: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(
        ["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=True
    )
    return [int(line) for line in listed.stdout.split()]


def poison(source: Path, folder: Path) -> Path:
    """Copy a model, one weight of it not a number: a loss computed with it is none either."""
    shutil.copytree(source, folder)
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        name = next(name for name in sorted(weights) if "layers" in name and "proj" in name)
        weights[name].view(-1)[0] = float("nan")
        save_file(weights, path, metadata={"format": "pt"})
    return folder


@ranks(1)
def test_completed_phases_exit_0_with_a_model_and_a_history(trained: Trained) -> None:
    launching, ended = trained
    sft = launching.beside(Phase.SFT).run(Phase.SFT, training_config())
    assert sft.code == 0, sft.output[-3000:]
    for end in (sft, ended[Phase.REWARD_MODEL]):
        assert end.result.outcome is Outcome.COMPLETED
        assert [record["step"] for record in end.history] == list(range(len(end.history)))
        assert (end.paths.model / "model.safetensors").exists()
        assert end.paths.result.stat().st_size <= MAXIMUM_RESULT_BYTES


@ranks(2)
def test_guard_stop_exits_10_and_exports_the_certified_policy(trained: Trained) -> None:
    launching, ended = trained
    end = launching.beside(Phase.PPO).run(Phase.PPO, training_config(**BREACH))
    result = end.result
    assert end.code == 10, end.output[-3000:]
    assert result.outcome is Outcome.STOPPED
    assert result.reason in {"KLLimitExceeded", "KLCeilingExceeded"}
    assert result.metrics["klNats"] > result.metrics["klLimitNats"] == 0.5
    assert result.certified_step is not None
    assert result.certified_step < result.step
    assert end.history[-1]["step"] == result.step
    assert end.history[-1]["event"]
    kl_by_step = {record["step"]: record["values"]["kl_nats"] for record in end.history}
    assert kl_by_step[result.certified_step] <= 0.5
    exported = AutoModelForCausalLM.from_pretrained(end.paths.model)
    assert AutoTokenizer.from_pretrained(end.paths.model).eos_token == "<eos>"
    expected = (
        end.paths.checkpoint(result.certified_step)
        if result.certified_step
        else ended[Phase.SFT].paths.model
    )
    for name, weight in load_file(expected / "model.safetensors").items():
        assert torch.equal(exported.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("phase", "changes", "reason", "named"),
    [
        (
            Phase.PREPARATION,
            {"data": {"comparisons": {"minimumAgreement": {"atLeast": 0.99}}}},
            "AgreementTooLow",
            "0.99",
        ),
        (
            Phase.REWARD_MODEL,
            {"rewardModel": {"minimumAccuracy": 1.0, "maximumSteps": 1, "learningRate": 1e-9}},
            "AccuracyTooLow",
            "minimumAccuracy",
        ),
    ],
    ids=["agreement", "accuracy"],
)
@ranks(1)
def test_failed_gate_exits_11(
    trained: Trained, phase: Phase, changes: dict[str, Any], reason: str, named: str
) -> None:
    launching, _ = trained
    end = launching.beside(phase).run(phase, training_config(**changes))
    assert end.code == 11, end.output[-3000:]
    assert end.result.outcome is Outcome.GATE_FAILED
    assert end.result.reason == reason
    assert named in end.result.message


@pytest.mark.parametrize(
    ("phase", "changes", "place"),
    [
        (Phase.PREPARATION, {"data": {"prompts": {"path": "absent.jsonl"}}}, "prompts"),
        (Phase.SFT, {"model": {"source": "."}}, "cannot be loaded"),
        (Phase.SFT, {"model": {"device": "CUDA"}}, "spec.model.device=CUDA"),
        (
            Phase.PPO,
            {"evaluation": {"judge": {"kind": "EntryPoint", "entryPoint": "absent:judge"}}},
            "spec.evaluation.judge.entryPoint=absent:judge",
        ),
    ],
    ids=["data-file", "model", "device", "judge"],
)
@ranks(1)
def test_invalid_input_exits_20_and_names_the_place(
    trained: Trained, phase: Phase, changes: dict[str, Any], place: str
) -> None:
    launching, _ = trained
    end = launching.beside(phase).run(phase, training_config(**changes))
    assert end.code == 20, end.output[-3000:]
    assert end.result.outcome is Outcome.INVALID
    assert place in end.result.message


@ranks(1)
def test_allocator_limit_exits_21_and_says_what_to_change(trained: Trained, tmp_path: Path) -> None:
    make_memory_hog(make_run(tmp_path))
    config = training_config(**MEMORY_HOG)
    launching = Launching(tmp_path, tmp_path / "workspace", trained[0].processes)
    assert launching.run(Phase.PREPARATION, config).code == 0
    limit = (
        "import os, resource, sys;"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({DATA_LIMIT_BYTES}, {DATA_LIMIT_BYTES}));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    end = launching.run(Phase.SFT, config, prefix=(sys.executable, "-c", limit))
    assert end.code == 21, end.output[-3000:]
    assert end.result.outcome is Outcome.OUT_OF_MEMORY
    assert "tokensPerMicroBatch" in end.result.message


@pytest.mark.parametrize(
    ("phase", "loss"),
    [
        (Phase.SFT, "sft:cross_entropy"),
        (Phase.REWARD_MODEL, "reward_model:bradley_terry"),
        (Phase.PPO, "ppo_update:policy_loss"),
        (Phase.PPO, "ppo_update:value_loss"),
    ],
)
@ranks(2)
def test_nan_in_a_loss_exits_30(
    trained: Trained, phase: Phase, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SICK_LOSS", f"rlhf_trainer.phases.{loss}")
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{os.environ.get('PYTHONPATH', '')}")
    launching = replace(trained[0].beside(phase), program=("-c", SICK_LAUNCHER))
    end = launching.run(phase, training_config())
    assert end.code == 30, end.output[-3000:]
    assert end.result.outcome is Outcome.DIVERGED
    assert re.search(r"loss=nan at step \d", end.result.message)


@ranks(1)
def test_nan_in_a_reward_exits_30(trained: Trained, tmp_path: Path) -> None:
    launching, ended = trained
    sick = poison(ended[Phase.SFT].paths.model, tmp_path / "sick")
    config = training_config(sft={"from": {"path": str(sick)}})
    end = launching.beside(Phase.PPO).run(Phase.PPO, config)
    assert end.code == 30, end.output[-3000:]
    assert end.result.outcome is Outcome.DIVERGED
    assert "nan" in end.result.message.lower()


@ranks(2)
def test_sigterm_exits_143_at_a_step_boundary(trained: Trained) -> None:
    launching, _ = trained
    launcher, paths = launching.beside(Phase.SFT).start(Phase.SFT, training_config(**ENDLESS))
    wait_for_history(launcher, paths)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate()
    end = Ended(launcher.returncode, paths, output)
    assert end.code == 143, output[-3000:]
    assert end.result.outcome is Outcome.PREEMPTED
    assert end.history[-1]["step"] == end.result.step > 0


@ranks(2)
def test_killed_rank_is_a_crash_with_its_signal(trained: Trained) -> None:
    launching, _ = trained
    launcher, paths = launching.beside(Phase.SFT).start(Phase.SFT, training_config(**ENDLESS))
    wait_for_history(launcher, paths)
    os.kill(ranks_of(launcher)[-1], signal.SIGKILL)
    output, _ = launcher.communicate()
    end = Ended(launcher.returncode, paths, output)
    assert end.code == 137, output[-3000:]
    assert end.result.outcome is Outcome.CRASHED
