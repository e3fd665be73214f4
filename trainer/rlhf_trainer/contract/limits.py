"""How much is handled at once: what the trainer keeps to, and its memory plan counts with."""

CHUNK_BYTES = 2**27
"""Largest float32 logits at a time: of 1048 tokens at a vocabulary of 32,000."""

DECODE_BUDGET_FACTOR = 8
"""Decoding holds no activations for a backward pass, so its batches may be this much larger than
micro-batches."""
