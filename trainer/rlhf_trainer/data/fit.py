"""Whether tokenised data fits: something is left to learn from, and the model has positions for it.

Decided here: what is refused before a phase has begun that would fail, hours later, on a GPU.
"""

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.data.prepared import PreparedSet, TokenisedSets
from rlhf_trainer.data.store import Demonstrations
from rlhf_trainer.data.tokenizer import ModelLimits
from rlhf_trainer.errors import InvalidError


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


def require_positions(config: TrainingConfig, sets: TokenisedSets, limits: ModelLimits) -> None:
    """Refuse sequences that are longer than the model's context.

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
    if config.sft.from_ is None:
        _require("sft.maximumTokens", config.sft.maximum_tokens, demonstration, limits)
    if config.reward_model.from_ is None:
        _require("rewardModel.maximumTokens", config.reward_model.maximum_tokens, pair, limits)
    _require("ppo.maximumResponseTokens", response, prompt + response, limits)


def _require(setting: str, value: int, needed: int, limits: ModelLimits) -> None:
    if limits.maximum_positions is not None and needed > limits.maximum_positions:
        raise InvalidError(
            f"spec.{setting}",
            value,
            f"the longest sequence has {needed} tokens, and the model takes "
            f"{limits.maximum_positions} (max_position_embeddings)",
            "lower it, shorten the prompts, or choose a model with a longer context",
        )
