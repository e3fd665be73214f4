"""Log-probabilities of chosen tokens, without the whole batch's logits [B, T, V].

Legend: N = tokens asked for, H = hidden size, V = vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from rlhf_trainer.contract.limits import CHUNK_BYTES

LARGE_VOCABULARY = 2**17
"""What a head is taken to have that does not say."""


def selected_log_probs(
    hidden_NH: Tensor, head: nn.Module, target_N: Tensor, *, temperature: float
) -> Tensor:
    """Return log softmax(head(hidden) / temperature) at each target, in nats, float32 [N].

    Only response positions come in, and in chunks; with gradient, the probabilities of a single
    chunk are kept for the backward pass, and those of several are computed again.

    The module `head` is called once, however many chunks there are: under ZeRO 3 each call gathers
    its weight, in which all ranks must take part, and they need not have as many chunks.
    """
    logits_of: Callable[[Tensor], Tensor] = head.forward
    chunk_tokens = _chunk_tokens(head)

    def chunk_log_probs(hidden: Tensor, target: Tensor) -> Tensor:
        logits = logits_of(hidden)
        logp: Tensor = _SelectedLogProbs.apply(logits, target, temperature)  # type: ignore[no-untyped-call] # torch has no type for it
        return logp

    def all_log_probs(hidden_NH: Tensor) -> Tensor:
        recompute = torch.is_grad_enabled() and len(target_N) > chunk_tokens
        chunks = zip(
            torch.split(hidden_NH, chunk_tokens), torch.split(target_N, chunk_tokens), strict=True
        )
        return torch.cat(
            [
                checkpoint(chunk_log_probs, hidden, target, use_reentrant=False)
                if recompute
                else chunk_log_probs(hidden, target)
                for hidden, target in chunks
            ]
        )

    with _forward(head, all_log_probs):
        logp_N: Tensor = head(hidden_NH)
    return logp_N


@contextmanager
def _forward(
    module: Any,  # noqa: ANN401 - a module whose method is hidden
    forward: Callable[[Tensor], Tensor],
) -> Iterator[None]:
    """Let a call of `module`, with all its hooks, compute `forward`."""
    own = vars(module).get("forward")
    module.forward = forward  # hides the class's method
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _chunk_tokens(head: nn.Module) -> int:
    vocabulary = getattr(head, "out_features", LARGE_VOCABULARY)
    return max(1, CHUNK_BYTES // (torch.float32.itemsize * int(vocabulary)))


class _SelectedLogProbs(torch.autograd.Function):
    """log softmax(logits / temperature) at each target, [N], from logits [N, V].

    Differentiated part by part it would write five more tensors of the logits' size. Here the
    probabilities are the only one, and become the gradient in their own memory.
    """

    @staticmethod
    @override
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        dtype = logits_NV.dtype
        logits_NV = logits_NV.to(torch.promote_types(dtype, torch.float32))
        if temperature != 1:
            logits_NV = logits_NV / temperature
        target_N1 = target_N.unsqueeze(-1)
        probability_NV = logits_NV.softmax(-1)
        # Of the likeliest token, whose probability is at least 1 / V, the logarithm is exact.
        likeliest_N1 = probability_NV.amax(-1, keepdim=True)
        normaliser_N1 = logits_NV.amax(-1, keepdim=True) - likeliest_N1.log()
        ctx.temperature, ctx.dtype = temperature, dtype
        ctx.save_for_backward(probability_NV, target_N1)
        return (logits_NV.gather(-1, target_N1) - normaliser_N1).squeeze(-1)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[Tensor, None, None]:
        probability_NV, target_N1 = ctx.saved_tensors
        gradient_N1 = gradient_N.unsqueeze(-1) / ctx.temperature
        gradient_NV = probability_NV.mul_(-gradient_N1).scatter_add_(-1, target_N1, gradient_N1)
        return gradient_NV.to(ctx.dtype), None, None
