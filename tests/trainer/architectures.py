"""Toy configurations of common architectures, as people bring them: what differs is kept."""

from toy import VOCABULARY
from transformers import AutoConfig, PreTrainedConfig

COMMON = {
    "vocab_size": len(VOCABULARY) + 5,  # padded, as pretrained embeddings are
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN = {
    "llama": {"pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "mistral": {"sliding_window": 4},
}


def make_config(model_type: str, *, tied: bool) -> PreTrainedConfig:
    settings = {**COMMON, **OWN[model_type], "tie_word_embeddings": tied}
    return AutoConfig.for_model(model_type, **settings)
