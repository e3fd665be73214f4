"""Whether tokenised data fits: something is left to learn from, and the model has positions for it.

Decided here: what is refused before a phase has begun that would fail, hours later, on a GPU.
"""

from typing import NamedTuple

import numpy as np

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.data.prepared import PreparedSet, TokenisedSets
from rlhf_trainer.data.store import Demonstrations, Pairs, Prompts
from rlhf_trainer.data.tokenizer import ModelLimits
from rlhf_trainer.errors import InvalidError

NUM_END_TOKENS = 1
"""The reward model reads a cut response with one end-of-sequence token appended."""


def require_rows(config: TrainingConfig, sets: TokenisedSets) -> None:
    """Refuse a limit on length that has left nothing of a set.

    Raises:
        InvalidError: a set is empty.
    """
    for which, tokenised in sets.items():
        if not len(tokenised.data):
            if isinstance(tokenised.data, Demonstrations):
                setting, limit = "spec.sft.maximumTokens", config.sft.maximum_tokens
            else:
                setting, limit = (
                    "spec.rewardModel.maximumTokens",
                    config.reward_model.maximum_tokens,
                )
            notes = ", ".join(f"{name} {count}" for name, count in tokenised.notes.items())
            raise InvalidError(
                setting,
                limit,
                f"nothing is left of {which} ({notes})",
                "raise it, or mend the data",
            )


def require_positions(
    config: TrainingConfig,
    sets: TokenisedSets,
    policy: ModelLimits,
    reward: ModelLimits,
    *,
    eos_token: int,
) -> None:
    """Refuse sequences that are longer than the context of a model that is to read them.

    `policy` and `reward` are the limits of the models that the policy and the reward model are, or
    start from. The reward model reads more than it learns from: demonstrations, to normalise its
    scores, and cut responses; both with an end-of-sequence token, if they have none.

    Raises:
        InvalidError: a phase that is to run would need more positions than there are.
    """
    longest = {which: int(tokenised.data.lengths.max()) for which, tokenised in sets.items()}
    demonstration = max(
        longest[PreparedSet.DEMONSTRATIONS], longest[PreparedSet.HELD_OUT_DEMONSTRATIONS]
    )
    pair = max(longest[PreparedSet.COMPARISONS], longest[PreparedSet.HELD_OUT_COMPARISONS])
    prompt = max(longest[PreparedSet.PROMPTS], longest[PreparedSet.HELD_OUT_PROMPTS])
    response = config.ppo.maximum_response_tokens
    in_sft = _Setting("sft.maximumTokens", config.sft.maximum_tokens)
    in_pairs = _Setting("rewardModel.maximumTokens", config.reward_model.maximum_tokens)
    in_ppo = _Setting("ppo.maximumResponseTokens", response)
    if config.sft.from_ is None:
        _require(in_sft, demonstration, policy, "model")
    if config.reward_model.from_ is None:
        _require(in_pairs, pair, reward, "reward model")
        scored = _longest_ended(sets[PreparedSet.DEMONSTRATIONS].data, eos_token)
        _require(in_sft, min(scored, in_sft.value), reward, "reward model")
    _require(in_ppo, prompt + response, policy, "model")
    _require(in_ppo, prompt + response + NUM_END_TOKENS, reward, "reward model")


def _longest_ended(data: Demonstrations | Pairs | Prompts, eos_token: int) -> int:
    """Return the tokens of the longest demonstration once all end with the same token."""
    assert isinstance(data, Demonstrations)  # noqa: S101 - what that set holds
    tokens = data.tokens
    last = tokens.values[tokens.offsets[1:] - 1]
    return int((tokens.lengths + np.where(last == eos_token, 0, NUM_END_TOKENS)).max())


class _Setting(NamedTuple):
    """A field of the spec that limits a length."""

    name: str
    value: int


def _require(setting: _Setting, needed: int, limits: ModelLimits, reader: str) -> None:
    if limits.maximum_positions is not None and needed > limits.maximum_positions:
        raise InvalidError(
            f"spec.{setting.name}",
            setting.value,
            f"the longest sequence has {needed} tokens, and the {reader} takes "
            f"{limits.maximum_positions} (max_position_embeddings)",
            "lower it, shorten the prompts, or choose a model with a longer context",
        )
