"""What must not change a result: ranks, micro-batches, recomputation; and a run repeats itself."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import Ended, Launching
from one_start import Case, run_in_one_start
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
    "critic_gradient_norm",
)
BUDGETED = ("sft", "rewardModel", "ppo")
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "2-ranks": (2, {}),
    "small-micro-batches": (1, {part: {"tokensPerMicroBatch": 48} for part in BUDGETED}),
    "recomputation": (1, {"model": {"gradientCheckpointing": True}}),
    "recomputed-in-padded-rows": (
        1,
        {"model": {"gradientCheckpointing": True}}
        | {part: {"packing": False} for part in BUDGETED},
    ),
}


DROPOUT = {"rewardModel": {"dropout": 0.3}}
EARLY_STOP = {
    "rewardModel": {
        "learningRate": 1e-9,
        "earlyStopping": {"validateEverySteps": 1, "patience": 2},
    }
}
OWN_REWARD_MODEL = {"rewardModel": {"model": {"source": "wide"}}}
BEFORE_PPO = (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)


class Runs:
    """A run up to PPO by one rank in large micro-batches, and phases beside it by other means.

    All of them are run at once, by one start of one rank and one of two.
    """

    def __init__(self, data: Path, folder: Path) -> None:
        self.reference = Launching(data, folder / "run")
        for phase in (*BEFORE_PPO, Phase.PPO):  # others point at them before they are filled
            (self.reference.workspace / "iteration-1" / phase.slug).mkdir(parents=True)
        self._cases: dict[str, Case] = {
            f"reference-{phase.slug}": Case(self.reference, phase, training_config())
            for phase in (*BEFORE_PPO, Phase.PPO)
        }
        for name, (processes, changes) in VARIANTS.items():
            for phase in (Phase.SFT, Phase.PPO):
                self._beside(f"{name}-{phase.slug}", phase, changes, processes)
        for name in ("dropout", "dropout-again"):
            self._beside(name, Phase.REWARD_MODEL, DROPOUT)
        self._beside("early-stop", Phase.REWARD_MODEL, EARLY_STOP)
        own = self.reference.beside(Phase.REWARD_MODEL)
        for phase in (Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION):
            self._cases[f"own-{phase.slug}"] = Case(own, phase, training_config(**OWN_REWARD_MODEL))
        self.ended: dict[str, Ended] = {}
        for count in (1, 2):
            cases = {key: one for key, one in self._cases.items() if one.place.processes == count}
            self.ended |= zip(cases, run_in_one_start([*cases.values()], folder), strict=True)

    def _beside(self, name: str, phase: Phase, changes: dict[str, Any], processes: int = 1) -> None:
        place = replace(self.reference.beside(phase), processes=processes)
        self._cases[name] = Case(place, phase, training_config(**changes))

    def history(self, name: str) -> list[list[float]]:
        return compared(self.completed(name))

    def completed(self, name: str) -> Ended:
        end = self.ended[name]
        assert end.code == 0, end.output[-3000:]
        return end


def compared(end: Ended) -> list[list[float]]:
    return [
        [record["values"].get(name, 0.0) for name in (*COMPARED, "preference_accuracy")]
        for record in end.history
    ]


@pytest.fixture(scope="module")
def runs(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(toy_data, tmp_path_factory.mktemp("invariance"))


@pytest.mark.parametrize("phase", [Phase.SFT, Phase.PPO])
@pytest.mark.parametrize("variant", VARIANTS)
def test_histories_agree(runs: Runs, variant: str, phase: Phase) -> None:
    expected = runs.history(f"reference-{phase.slug}")
    measured = runs.history(f"{variant}-{phase.slug}")
    assert len(measured) == len(expected)
    for got, wanted in zip(measured, expected, strict=True):
        assert got == pytest.approx(wanted, rel=TOLERANCE, abs=1e-5)


def test_a_phase_with_dropout_repeats_itself(runs: Runs) -> None:
    first = runs.history("dropout")
    assert first == runs.history("dropout-again")
    assert first != runs.history("reference-reward-model")


def test_dropout_of_the_models_is_off_in_ppo(runs: Runs, tmp_path: Path) -> None:
    """Huang et al. 2023, "The N implementation details of RLHF with PPO": policy, reference, critic
    and reward model give the numbers of models that have none.
    """
    launching = runs.reference.beside(Phase.PPO)
    for phase in (Phase.SFT, Phase.REWARD_MODEL):
        link = launching.workspace / "iteration-1" / phase.slug
        trained = link.resolve()
        link.unlink()
        shutil.copytree(trained, link)
        config = link / "attempt-1" / "model" / "config.json"
        document = json.loads(config.read_text(encoding="utf-8"))
        assert document["attention_dropout"] == 0
        config.write_text(json.dumps(document | {"attention_dropout": 0.5}), encoding="utf-8")
    (end,) = run_in_one_start([Case(launching, Phase.PPO, training_config())], tmp_path)
    assert end.code == 0, end.output[-3000:]
    assert compared(end) == runs.history("reference-ppo")


def test_a_reward_model_of_its_own_trains_and_judges(runs: Runs) -> None:
    for phase in (Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION):
        runs.completed(f"own-{phase.slug}")


def test_early_stopping_ends_training_and_keeps_the_best_weights(runs: Runs) -> None:
    end = runs.completed("early-stop")
    assert end.history[-1]["step"] == 2
    assert end.history[-1]["event"].startswith("early stop")
    assert end.result.step == 0
