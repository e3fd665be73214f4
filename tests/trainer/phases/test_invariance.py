"""What must not change a result: ranks, micro-batches, recomputation; and a run repeats itself."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import Launching
from toy import training_config

from rlhf_trainer.contract import Phase, Workspace

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
    "recomputed-in-packed-rows": (
        1,
        {"model": {"gradientCheckpointing": True}} | {part: {"packing": True} for part in BUDGETED},
    ),
}


@pytest.fixture(scope="module")
def reference(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    """A workspace with all phases up to PPO, by one rank in large micro-batches."""
    launching = Launching(toy_data, tmp_path_factory.mktemp("reference") / "run")
    for phase in (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL, Phase.PPO):
        end = launching.run(phase, training_config())
        assert end.code == 0, end.output[-3000:]
    return launching


def history(launching: Launching, phase: Phase, **changes: Any) -> list[list[float]]:
    end = launching.beside(phase).run(phase, training_config(**changes))
    assert end.code == 0, end.output[-3000:]
    return [
        [record["values"].get(name, 0.0) for name in COMPARED]
        + [record["values"].get("preference_accuracy", 0.0)]
        for record in end.history
    ]


@pytest.fixture(scope="module", params=[Phase.SFT, Phase.PPO])
def undisturbed(
    request: pytest.FixtureRequest, reference: Launching
) -> tuple[Phase, list[list[float]]]:
    """A phase, and its history by one rank in large micro-batches."""
    return request.param, history(reference, request.param)


@pytest.mark.parametrize("variant", VARIANTS)
def test_histories_agree(
    reference: Launching, undisturbed: tuple[Phase, list[list[float]]], variant: str
) -> None:
    processes, changes = VARIANTS[variant]
    phase, expected = undisturbed
    measured = history(replace(reference, processes=processes), phase, **changes)
    assert len(measured) == len(expected)
    for got, wanted in zip(measured, expected, strict=True):
        assert got == pytest.approx(wanted, rel=TOLERANCE, abs=1e-5)


def test_a_phase_with_dropout_repeats_itself(reference: Launching) -> None:
    changes = {"rewardModel": {"dropout": 0.3}}
    first = history(reference, Phase.REWARD_MODEL, **changes)
    assert first == history(reference, Phase.REWARD_MODEL, **changes)
    assert first != history(reference, Phase.REWARD_MODEL)


def test_dropout_of_the_models_is_off_in_ppo(reference: Launching) -> None:
    """Huang et al. 2023, "The N implementation details of RLHF with PPO": policy, reference, critic
    and reward model give the numbers of models that have none.
    """
    launching = reference.beside(Phase.PPO)
    for phase in (Phase.SFT, Phase.REWARD_MODEL):
        link = launching.workspace / "iteration-1" / phase.slug
        trained = link.resolve()
        link.unlink()
        shutil.copytree(trained, link)
        config = link / "attempt-1" / "model" / "config.json"
        document = json.loads(config.read_text(encoding="utf-8"))
        assert document["attention_dropout"] == 0
        config.write_text(json.dumps(document | {"attention_dropout": 0.5}), encoding="utf-8")
    end = launching.run(Phase.PPO, training_config())
    assert end.code == 0, end.output[-3000:]
    plain = Workspace(reference.workspace).attempt(1, Phase.PPO, 1).history.read_text("utf-8")
    compared = [
        [{name: record["values"].get(name) for name in COMPARED} for record in records]
        for records in (end.history, map(json.loads, plain.splitlines()))
    ]
    assert compared[0] == compared[1]


def test_a_reward_model_of_its_own_trains_and_judges(reference: Launching) -> None:
    launching = reference.beside(Phase.REWARD_MODEL)
    changes = {"rewardModel": {"model": {"source": "wide"}}}
    config = training_config(**changes)
    for phase in (Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION):
        end = launching.run(phase, config)
        assert end.code == 0, end.output[-3000:]


def test_early_stopping_ends_training_and_keeps_the_best_weights(reference: Launching) -> None:
    changes = {
        "rewardModel": {
            "learningRate": 1e-9,
            "earlyStopping": {"validateEverySteps": 1, "patience": 2},
        }
    }
    launching = reference.beside(Phase.REWARD_MODEL)
    end = launching.run(Phase.REWARD_MODEL, training_config(**changes))
    assert end.code == 0, end.output[-3000:]
    assert end.history[-1]["step"] == 2
    assert end.history[-1]["event"].startswith("early stop")
    assert end.result.step == 0
