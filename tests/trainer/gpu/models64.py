"""Toy models whose heads are as wide as real ones: FlashAttention is built per head dimension."""

from transformers import LlamaConfig

VOCABULARY = 64


def llama(vocab_size: int = VOCABULARY, **changes: object) -> LlamaConfig:
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaConfig(vocab_size=vocab_size, **(sizes | changes))
