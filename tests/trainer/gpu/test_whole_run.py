"""A whole toy run on a GPU through the launcher, and PPO that is taken up after a preemption."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from launching import Ended, Launching
from models64 import llama
from safetensors.torch import load_file
from toy import VOCABULARY, make_run, save_base, training_config

from rlhf_trainer.contract import Outcome, Phase

pytestmark = pytest.mark.gpu

CONFIG = training_config(
    model={"gradientCheckpointing": True, "device": "CUDA"},
    deepspeed={"zeroStage": 2, "offloadOptimizer": True},
    sft={"packing": True},
    rewardModel={"packing": True},
    ppo={"packing": True, "totalEpisodes": 96},
)
WEIGHT_TOLERANCE = 1e-2
"""Of a run that was interrupted, relative to the norm of what PPO changed: kernels add up in
another order each time."""
FIRST_KL_NATS = 0.05
"""Of responses of 8 tokens."""
STARTED_SECONDS = 120


@dataclass(frozen=True)
class Trained:
    launching: Launching
    ended: dict[Phase, Ended]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, say_seconds: Callable[..., None]) -> Trained:
    data = make_run(tmp_path_factory.mktemp("data"))
    save_base(data / "base", llama(vocab_size=len(VOCABULARY)))
    launching = Launching(data, tmp_path_factory.mktemp("run"))
    ended = {}
    for phase in Phase:
        ended[phase] = launching.run(phase, CONFIG)
        assert ended[phase].code == 0, ended[phase].output[-4000:]
        say_seconds(phase, ended[phase])
    return Trained(launching, ended)


@pytest.fixture(scope="module")
def say_seconds() -> Callable[..., None]:
    def line(phase: Phase, end: Ended) -> None:
        print(f"{phase.slug}: {end.result.duration_seconds} s: {end.result.message}")  # noqa: T201 - for who waits

    return line


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([(one[name] - other[name]).norm() for name in one]).norm())


def test_every_phase_completes_and_learns(run: Trained) -> None:
    assert {end.result.outcome for end in run.ended.values()} == {Outcome.COMPLETED}
    sft = run.ended[Phase.SFT].result.metrics
    assert sft["validationLossNatsPerToken"] < sft["initialValidationLossNatsPerToken"]
    assert run.ended[Phase.REWARD_MODEL].result.metrics["validationAccuracy"] > 0.7
    history = run.ended[Phase.PPO].history
    assert history[-1]["values"]["reward_score"] > history[0]["values"]["reward_score"]
    # The reference is the policy's start: in bfloat16, too, the first KL is rounding alone.
    assert abs(history[0]["values"]["kl_nats"]) < FIRST_KL_NATS


def test_exports_are_bfloat16(run: Trained) -> None:
    exported = load_file(run.ended[Phase.PPO].paths.model / "model.safetensors")
    assert {value.dtype for value in exported.values()} == {torch.bfloat16}


def test_ppo_taken_up_after_a_preemption_ends_as_if_nothing_had_happened(
    run: Trained, say: Callable[[str], None]
) -> None:
    beside = run.launching.beside(Phase.PPO)
    process, paths = beside.start(Phase.PPO, CONFIG)
    deadline = time.monotonic() + STARTED_SECONDS
    while not list(paths.checkpoints.glob("step-*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # noqa: TID251 - waits for another process, which cannot call back
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == Outcome.PREEMPTED.exit_code, output[-4000:]
    resumed = beside.run(Phase.PPO, CONFIG, attempt=2)
    assert resumed.code == 0, resumed.output[-4000:]
    assert "going on after step" in resumed.output
    whole, sft = run.ended[Phase.PPO].paths.model, run.ended[Phase.SFT].paths.model
    moved = distance(weights(whole), weights(sft))
    apart = distance(weights(whole), weights(resumed.paths.model)) / moved
    say(f"taken up: {apart:.2g} of what PPO moved ({moved:.3g}) from the uninterrupted run")
    assert apart < WEIGHT_TOLERANCE
