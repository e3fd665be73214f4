"""What a loaded model is told, and whether it can be written again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.models.loading import load_causal_lm, tell_special_tokens

SPECIAL = SpecialTokens(bos=1, eos=5, pad=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.6, "top_p": 0.9},
        {"do_sample": False, "top_k": 20},
        {"do_sample": True, "temperature": 0.7},
        {"length_penalty": 2.0, "output_scores": True},
    ],
    ids=["sampling-alone", "told-not-to-sample", "sampling", "beams-and-outputs"],
)
def test_exported_settings_of_generation_are_the_bases_with_our_tokens(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Also those without effect, with which transformers does not write a changed configuration."""
    source, export = tmp_path / "base", tmp_path / "export"
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(source)
    text = json.dumps({"eos_token_id": 2, **settings})
    (source / "generation_config.json").write_text(text, encoding="utf-8")
    lm = load_causal_lm(source, ModelConfig(source="base"), torch.device("cpu"))
    tell_special_tokens(lm, SPECIAL)
    lm.save_pretrained(export)
    written = GenerationConfig.from_pretrained(export)
    assert (written.pad_token_id, written.eos_token_id) == (3, [2, 5])
    assert {name: getattr(written, name) for name in settings} == settings
