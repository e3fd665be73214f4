"""What must not change a result: ranks, micro-batches, recomputation; and a run repeats itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from launching import Launching
from toy import training_config

from rlhf_trainer.contract import Phase

TOLERANCE = 2e-4
"""Relative, on losses and KL after a few updates in float32: sums are taken in another order."""
COMPARED = (
    'loss{name="sft"}',
    'loss{name="validation"}',
    'loss{name="policy"}',
    'loss{name="value"}',
    "kl_nats",
    "reward_score",
    "gradient_norm",
)
BUDGETED = ("sft", "rewardModel", "ppo")
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "2-ranks": (2, {}),
    "small-micro-batches": (1, {part: {"tokensPerMicroBatch": 48} for part in BUDGETED}),
    "recomputation": (1, {"model": {"gradientCheckpointing": True}}),
}


@pytest.fixture(scope="module")
def reference(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    """A workspace with all phases up to PPO, by one rank in large micro-batches."""
    launching = Launching(toy_data, tmp_path_factory.mktemp("reference") / "run")
    for phase in (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL, Phase.PPO):
        end = launching.run(phase, training_config())
        assert end.code == 0, end.output[-3000:]
    return launching


def history(launching: Launching, phase: Phase, attempt: int, **changes: Any) -> list[list[float]]:
    end = launching.run(phase, training_config(**changes), attempt=attempt)
    assert end.code == 0, end.output[-3000:]
    return [
        [record["values"].get(name, 0.0) for name in COMPARED]
        + [record["values"].get("preference_accuracy", 0.0)]
        for record in end.history
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("phase", [Phase.SFT, Phase.PPO])
def test_histories_agree(reference: Launching, phase: Phase, variant: str, tmp_path: Path) -> None:
    processes, changes = VARIANTS[variant]
    workspace = shutil.copytree(reference.workspace, tmp_path / "run")
    expected = history(Launching(reference.data_root, workspace), phase, 2)
    other = Launching(reference.data_root, workspace, processes)
    measured = history(other, phase, 3, **changes)
    assert len(measured) == len(expected)
    for got, wanted in zip(measured, expected, strict=True):
        assert got == pytest.approx(wanted, rel=TOLERANCE, abs=1e-5)


def test_a_phase_with_dropout_repeats_itself(reference: Launching, tmp_path: Path) -> None:
    workspace = shutil.copytree(reference.workspace, tmp_path / "run")
    launching = Launching(reference.data_root, workspace)
    changes = {"rewardModel": {"dropout": 0.3}}
    first = history(launching, Phase.REWARD_MODEL, 2, **changes)
    assert first == history(launching, Phase.REWARD_MODEL, 3, **changes)
    assert first != history(launching, Phase.REWARD_MODEL, 4)


def test_a_reward_model_of_its_own_trains_and_judges(reference: Launching, tmp_path: Path) -> None:
    workspace = shutil.copytree(reference.workspace, tmp_path / "run")
    launching = Launching(reference.data_root, workspace)
    changes = {"rewardModel": {"model": {"source": "wide"}}}
    config = training_config(**changes)
    for phase in (Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION):
        end = launching.run(phase, config, attempt=2)
        assert end.code == 0, end.output[-3000:]


def test_early_stopping_ends_training_and_keeps_the_best_weights(
    reference: Launching, tmp_path: Path
) -> None:
    workspace = shutil.copytree(reference.workspace, tmp_path / "run")
    launching = Launching(reference.data_root, workspace)
    changes = {
        "rewardModel": {
            "learningRate": 1e-9,
            "earlyStopping": {"validateEverySteps": 1, "patience": 2},
        }
    }
    end = launching.run(Phase.REWARD_MODEL, training_config(**changes), attempt=2)
    assert end.code == 0, end.output[-3000:]
    assert end.history[-1]["step"] == 2
    assert end.history[-1]["event"].startswith("early stop")
    assert end.result.step == 0
