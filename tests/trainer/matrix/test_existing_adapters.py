"""Adapters that an earlier run exported take the place of phases, as whole models do."""

from pathlib import Path
from typing import Any

import pytest
from launching import Ended, Launching
from one_start import Case, run_in_one_start
from toy import training_config

from rlhf_trainer.contract import Phase

LORA = {"source": "base", "lora": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="module")
def earlier(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    """A run with LoRA, up to its reward model."""
    folder = tmp_path_factory.mktemp("earlier")
    launching = Launching(toy_data, folder / "run")
    phases = (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)
    cases = [Case(launching, phase, training_config(model=LORA)) for phase in phases]
    completed(run_in_one_start(cases, folder))
    return launching


def completed(ends: list[Ended]) -> None:
    for end in ends:
        assert end.code == 0, end.output[-3000:]


def existing(earlier: Launching, **changes: Any) -> dict[str, Any]:
    given = {
        "sft": adapter(earlier, Phase.SFT),
        "rewardModel": adapter(earlier, Phase.REWARD_MODEL),
    }
    return training_config(**(given | changes))


def rewards(end: Ended) -> list[float]:
    return [record["values"]["reward_score"] for record in end.history]


def test_adapters_go_on_as_adapters_and_merged_as_whole_models(
    earlier: Launching, tmp_path: Path
) -> None:
    """The first rollout is the SFT policy's either way, and so are its scores."""
    cases = [Case(earlier.beside(Phase.PPO), Phase.PPO, training_config(model=LORA))]
    for config in (existing(earlier, model=LORA), existing(earlier)):
        place = earlier.beside(Phase.PREPARATION)
        cases += [Case(place, phase, config) for phase in (Phase.PREPARATION, Phase.PPO)]
    ends = run_in_one_start(cases, tmp_path)
    completed(ends)
    expected, adapters, merged = (rewards(end) for end in (ends[0], ends[2], ends[4]))
    assert adapters == pytest.approx(expected, rel=1e-4)
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
    "adapter of another rank": (
        {"model": {"source": "base", "lora": {"alpha": 8}}},
        Phase.SFT,
        "it is trained on as it is, with rank 4, and spec.model.lora has rank 16; write rank: 4",
    ),
    "layer that there is not": (
        {"model": {"source": "base", "lora": {"targetModules": ["q_proj", "typo"]}}},
        None,
        "spec.model.lora.targetModules=typo: is no linear layer",
    ),
}


@pytest.fixture(scope="module")
def refused(earlier: Launching, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    sections = {Phase.SFT: "sft", Phase.REWARD_MODEL: "rewardModel"}
    cases = []
    for changes, taken, _ in REFUSED.values():
        given = {sections[taken]: adapter(earlier, Phase.SFT)} if taken is not None else {}
        config = training_config(**(changes | given))
        cases.append(Case(earlier.beside(Phase.PREPARATION), Phase.PREPARATION, config))
    ends = run_in_one_start(cases, tmp_path_factory.mktemp("refused"))
    return dict(zip(REFUSED, ends, strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_preparation_refuses(refused: dict[str, Ended], case: str) -> None:
    end = refused[case]
    assert end.code == 20, end.output[-3000:]
    assert REFUSED[case][2] in end.result.message
