"""Policies of many architectures against plain transformers, one sequence without padding each."""

import numpy as np
import pytest
import torch
from architectures import COMMON, OWN
from rounding import ROUNDING_NATS
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.models.batch import collate, response_mask
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.rollout.protocol import row_uniforms
from rlhf_trainer.rollout.sampler import TransformersSampler

TEMPERATURE, LONGEST = 0.7, 12
PROMPTS = [np.array([1, 5, 6]), np.array([1, 7]), np.array([1, 8, 9, 10, 11, 12]), np.array([1])]
KINDS = OWN | {
    "bloom": {"n_layer": 2, "n_head": 4},  # ALiBi, no SDPA
    "gemma": {"head_dim": 8},
    "gpt_neox": {},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64},
    "mixtral": {"num_local_experts": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {"pad_token_id": 0},
}


@pytest.mark.parametrize("model_type", KINDS)
def test_kept_and_fresh_log_probs_equal_plain_transformers(
    model_type: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(model_type)
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**COMMON, **KINDS[model_type]})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    lm = load_causal_lm(folder, ModelConfig(source="x"), torch.device("cpu"))
    prompts = PROMPTS * 3
    sampler = TransformersSampler(
        lm,
        eos_token=2,
        temperature=TEMPERATURE,
        maximum_tokens=LONGEST,
        budget_tokens=10_000,
    )
    responses = sampler.sample(prompts, row_uniforms(0, 0, range(len(prompts)), LONGEST))
    sequences = [np.concatenate([p, r.tokens]) for p, r in zip(prompts, responses, strict=True)]
    masks = [response_mask(len(p), len(s)) for p, s in zip(prompts, sequences, strict=True)]
    batch = collate(sequences, masks, torch.device("cpu"))
    fresh = batch.split(log_probs(Policy(lm, temperature=TEMPERATURE), batch))

    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    for prompt, response, ours in zip(prompts, responses, fresh, strict=True):
        tokens = torch.from_numpy(np.concatenate([prompt, response.tokens]))
        with torch.no_grad():
            logits = plain(input_ids=tokens.unsqueeze(0)).logits[0] / TEMPERATURE
        positions = torch.arange(len(prompt) - 1, len(tokens) - 1)
        expected = logits.log_softmax(-1)[positions, tokens[len(prompt) :]].numpy()
        np.testing.assert_allclose(ours, expected, atol=ROUNDING_NATS)
        np.testing.assert_allclose(response.log_probs, expected, atol=ROUNDING_NATS)
