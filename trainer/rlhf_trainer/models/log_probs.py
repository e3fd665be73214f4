"""Log-probabilities of chosen tokens, without the whole batch's logits [B, T, V]."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 1024
"""Tokens whose logits exist at a time: 1024 x 32,000 float32 logits are 131 MB."""


def selected_log_probs(
    hidden_NH: Tensor, head: nn.Module, target_N: Tensor, *, temperature: float
) -> Tensor:
    """Return log softmax(head(hidden) / temperature) at each target, in nats, float32 [N].

    Only response positions come in, and in chunks; with gradient, a chunk's logits are recomputed
    in the backward pass instead of kept.
    """

    def chunk_log_probs(hidden: Tensor, target: Tensor) -> Tensor:
        logits: Tensor = head(hidden).float() / temperature
        chosen = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        return chosen - logits.logsumexp(-1)

    recompute = torch.is_grad_enabled() and len(target_N) > CHUNK_TOKENS
    chunks = zip(
        torch.split(hidden_NH, CHUNK_TOKENS), torch.split(target_N, CHUNK_TOKENS), strict=True
    )
    return torch.cat(
        [
            checkpoint(chunk_log_probs, hidden, target, use_reentrant=False)
            if recompute
            else chunk_log_probs(hidden, target)
            for hidden, target in chunks
        ]
    )
