"""How much is handled at once: what the trainer keeps to, and its memory plan counts with."""

CHUNK_BYTES = 2**27
"""Largest float32 logits at a time: of 1048 tokens at a vocabulary of 32,000."""

WIDTH_STEP = 16
"""Attention pads a packed row's sequences to multiples of it: torch's kernel takes 38 % longer over
31 tokens than over 32, and 30 % longer over 47 than over 48, forward and backward."""

DECODE_BUDGET_FACTOR = 8
"""Decoding holds no activations for a backward pass, so its batches may be this much larger than
micro-batches."""
