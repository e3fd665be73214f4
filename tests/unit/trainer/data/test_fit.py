from typing import Any

import numpy as np
import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.data.fit import require_positions, require_rows
from rlhf_trainer.data.prepared import PreparedSet, TokenisedSets
from rlhf_trainer.data.store import Demonstrations, Pairs, Prompts, Ragged
from rlhf_trainer.data.tokenise import Tokenised
from rlhf_trainer.data.tokenizer import ModelLimits
from rlhf_trainer.errors import InvalidError


def config(**changes: object) -> TrainingConfig:
    source = {"path": "a.jsonl"}
    document: dict[str, Any] = {
        "model": {"source": "m"},
        "data": {"demonstrations": source, "comparisons": source, "prompts": source},
        "ppo": {"maximumResponseTokens": 8},
        **changes,
    }
    return TrainingConfig.model_validate(document)


def sets(**lengths: list[int]) -> TokenisedSets:
    """Return six sets whose rows have the given lengths, 4 where none is given."""

    def rows(which: PreparedSet) -> Ragged[np.int32]:
        return Ragged.of([[7] * n for n in lengths.get(which.name.lower(), [4])], np.int32)

    def masks(which: PreparedSet) -> Ragged[np.uint8]:
        return Ragged.of([[1] * n for n in lengths.get(which.name.lower(), [4])], np.uint8)

    made: dict[PreparedSet, Any] = {}
    for which in PreparedSet:
        if "demonstrations" in which:
            made[which] = Tokenised(Demonstrations(rows(which), masks(which)), {"leftOut": 3})
        elif "comparisons" in which:
            made[which] = Tokenised(Pairs(rows(which), rows(which)), {"tooLong": 2, "alike": 1})
        else:
            made[which] = Tokenised(Prompts(rows(which), masks(which), masks(which)), {})
    return made


OPEN = ModelLimits(10, maximum_positions=None)
SHORT = ModelLimits(10, maximum_positions=32)
EOS = 7
"""What all rows consist of."""


def test_sets_that_fit_are_accepted() -> None:
    require_rows(config(), sets())
    require_positions(config(), sets(prompts=[23]), SHORT, SHORT, eos_token=EOS)


def test_longer_reward_model_leaves_the_policy_its_last_position() -> None:
    require_positions(config(), sets(prompts=[24]), SHORT, OPEN, eos_token=EOS)


def test_model_without_a_limit_takes_any_length() -> None:
    require_positions(config(), sets(prompts=[10_000]), OPEN, OPEN, eos_token=EOS)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (
            "held_out_demonstrations",
            (
                "spec.sft.maximumTokens=1024: nothing is left of demonstrations-heldout (leftOut "
                "3); "
                "raise it, or mend the data"
            ),
        ),
        (
            "comparisons",
            (
                "spec.rewardModel.maximumTokens=1024: nothing is left of comparisons "
                "(tooLong 2, alike 1); raise it, or mend the data"
            ),
        ),
    ],
)
def test_set_with_nothing_left_is_refused(which: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        require_rows(config(), sets(**{which: []}))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("lengths", "setting", "needed"),
    [
        ({"held_out_demonstrations": [33]}, "sft.maximumTokens=1024", 33),
        ({"held_out_prompts": [25]}, "ppo.maximumResponseTokens=8", 33),
    ],
)
def test_sequence_longer_than_the_context_is_refused(
    lengths: dict[str, list[int]], setting: str, needed: int
) -> None:
    with pytest.raises(InvalidError) as caught:
        require_positions(config(), sets(**lengths), SHORT, OPEN, eos_token=EOS)
    assert caught.value.message == (
        f"spec.{setting}: the longest sequence has {needed} tokens, and the model takes 32 "
        "(max_position_embeddings); lower it, shorten the prompts, or choose a model with a longer "
        "context"
    )


@pytest.mark.parametrize(
    ("lengths", "skipped"),
    [
        ({"held_out_demonstrations": [33]}, {"sft": {"from": {"path": "m"}}}),
        ({"comparisons": [33]}, {"rewardModel": {"from": {"path": "m"}}}),
    ],
)
def test_sequences_of_a_skipped_phase_need_no_positions(
    lengths: dict[str, list[int]], skipped: dict[str, object]
) -> None:
    require_positions(config(**skipped), sets(**lengths), SHORT, SHORT, eos_token=EOS)


@pytest.mark.parametrize(
    ("lengths", "setting", "needed"),
    [
        ({"comparisons": [40, 3]}, "rewardModel.maximumTokens=1024", 40),
        ({"demonstrations": [33]}, "sft.maximumTokens=1024", 33),
        ({"prompts": [24]}, "ppo.maximumResponseTokens=8", 33),
    ],
    ids=["pairs", "demonstrations that normalise scores", "cut response and its end"],
)
def test_sequence_longer_than_the_reward_models_context_is_refused(
    lengths: dict[str, list[int]], setting: str, needed: int
) -> None:
    with pytest.raises(InvalidError) as caught:
        require_positions(config(), sets(**lengths), OPEN, SHORT, eos_token=EOS)
    assert caught.value.message.startswith(
        f"spec.{setting}: the longest sequence has {needed} tokens, and the reward model takes 32 "
    )


def test_demonstration_without_its_end_is_scored_with_one_more_token() -> None:
    with pytest.raises(InvalidError, match="the longest sequence has 33 tokens, and the reward"):
        require_positions(config(), sets(demonstrations=[32]), OPEN, SHORT, eos_token=9)
    require_positions(config(), sets(demonstrations=[31]), OPEN, SHORT, eos_token=9)


def test_demonstration_that_was_cut_gives_its_last_token_for_its_end() -> None:
    cut = config(sft={"maximumTokens": 32})
    require_positions(cut, sets(demonstrations=[32]), OPEN, SHORT, eos_token=9)
