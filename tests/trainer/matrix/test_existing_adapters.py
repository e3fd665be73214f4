"""Adapters that an earlier run exported take the place of phases, as whole models do."""

from pathlib import Path
from typing import Any

import pytest
from launching import Launching
from toy import training_config

from rlhf_trainer.contract import Phase

LORA = {"source": "base", "lora": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="module")
def earlier(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    """A run with LoRA, up to its reward model."""
    launching = Launching(toy_data, tmp_path_factory.mktemp("earlier") / "run")
    for phase in (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL):
        end = launching.run(phase, training_config(model=LORA))
        assert end.code == 0, end.output[-3000:]
    return launching


def existing(earlier: Launching, **changes: Any) -> dict[str, Any]:
    given = {
        "sft": adapter(earlier, Phase.SFT),
        "rewardModel": adapter(earlier, Phase.REWARD_MODEL),
    }
    return training_config(**(given | changes))


def rewards(launching: Launching, config: dict[str, Any]) -> list[float]:
    for phase in (Phase.PREPARATION, Phase.PPO):
        end = launching.run(phase, config)
        assert end.code == 0, end.output[-3000:]
    return [record["values"]["reward_score"] for record in end.history]


def test_adapters_go_on_as_adapters_and_merged_as_whole_models(earlier: Launching) -> None:
    """The first rollout is the SFT policy's either way, and so are its scores."""
    end = earlier.beside(Phase.PPO).run(Phase.PPO, training_config(model=LORA))
    expected = [record["values"]["reward_score"] for record in end.history]
    adapters = rewards(earlier.beside(Phase.PREPARATION), existing(earlier, model=LORA))
    assert adapters == pytest.approx(expected, rel=1e-4)
    merged = rewards(earlier.beside(Phase.PREPARATION), existing(earlier))
    assert merged[0] == pytest.approx(expected[0], rel=1e-3)
    assert merged[1:] != pytest.approx(expected[1:], rel=1e-3)  # more weights have learned


def adapter(earlier: Launching, phase: Phase) -> dict[str, Any]:
    folder = earlier.workspace / "iteration-1" / phase.slug / "attempt-1" / "model"
    return {"from": {"path": str(folder)}}


REFUSED: dict[str, tuple[dict[str, Any], Phase | None, str]] = {
    "policy as reward model": (
        {"model": LORA},
        Phase.REWARD_MODEL,
        "is no reward model: the adapter comes without a score.weight",
    ),
    "adapter of another model": (
        {"model": LORA | {"source": "wide"}},
        Phase.SFT,
        "and spec.model.source is 'wide'",
    ),
    "layer that there is not": (
        {"model": {"source": "base", "lora": {"targetModules": ["q_proj", "typo"]}}},
        None,
        "spec.model.lora.targetModules=typo: is no linear layer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_preparation_refuses(earlier: Launching, case: str) -> None:
    changes, taken, message = REFUSED[case]
    sections = {Phase.SFT: "sft", Phase.REWARD_MODEL: "rewardModel"}
    given = {sections[taken]: adapter(earlier, Phase.SFT)} if taken is not None else {}
    launching = earlier.beside(Phase.PREPARATION)
    end = launching.run(Phase.PREPARATION, training_config(**(changes | given)))
    assert end.code == 20, end.output[-3000:]
    assert message in end.output
