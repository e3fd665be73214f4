"""Composite configurations, whose language model is a part of theirs."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Config

from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.architecture import require_policy
from rlhf_trainer.models.loading import tell_special_tokens
from rlhf_trainer.models.policy import Policy

SIZES = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}


def gemma3(**text: Any) -> Gemma3Config:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    return Gemma3Config(
        text_config={**SIZES, **heads, "vocab_size": 16, **text},
        vision_config={**SIZES, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    )


def test_policy_of_a_composite_configuration_has_values_of_the_language_models_size() -> None:
    lm = AutoModelForCausalLM.from_config(gemma3()).eval()
    policy = Policy(lm, temperature=1.0, value_head=True)
    tokens, predict = torch.tensor([[1, 4, 5, 6]]), torch.tensor([1, 2])
    logp, values = policy(tokens, predict, torch.tensor([5, 6]))
    expected = lm(input_ids=tokens).logits[0, 1:3].log_softmax(-1)
    torch.testing.assert_close(logp, expected[torch.arange(2), torch.tensor([5, 6])])
    assert values.tolist() == [0, 0]


def test_composite_configuration_is_searched_for_changes_of_logits() -> None:
    require_policy(gemma3(), "spec.model.source", "base")
    with pytest.raises(InvalidError, match=r"its final_logit_softcapping is 30\.0"):
        require_policy(gemma3(final_logit_softcapping=30.0), "spec.model.source", "base")


def test_special_tokens_are_told_to_both_parts_of_a_composite_configuration() -> None:
    """Its outer part has an end of its own only if the model's publisher wrote one."""
    lm = AutoModelForCausalLM.from_config(gemma3())
    tell_special_tokens(lm, SpecialTokens(bos=2, eos=5, pad=3))
    assert lm.config.eos_token_id == 5
    assert (lm.config.pad_token_id, lm.config.get_text_config().pad_token_id) == (3, 3)
