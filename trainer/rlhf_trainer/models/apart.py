"""SDPA of a packed row, sequence by sequence.

transformers masks a packed row for SDPA as a whole: a block-diagonal mask over all of its tokens,
which costs time and memory by the square of the row. Here queries, keys and values are laid out as
padded rows for the kernel alone, which then needs no mask; everything else still computes the
packed row. Where each token goes is passed down in the mask's place, so that a layer that is
computed again for its backward pass finds it, too.
Legend: N = tokens of the row, S = its sequences, T = the longest, H = heads, D = size of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from typing_extensions import override

_positions: ContextVar[Tensor | None] = ContextVar("positions of a packed row", default=None)


@contextmanager
def kept_apart(positions_1N: Tensor) -> Iterator[None]:
    """Let a trunk, run without mask and cache, attend within sequences; positions restart in each.

    Only models that attend through transformers' interface take part.
    """
    before = _positions.set(positions_1N)
    try:
        yield
    finally:
        _positions.reset(before)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401 - passed on
    """Return what SDPA's layers get for a mask."""
    positions_1N = _positions.get()
    # Patterns of a model's own are for the plain mask to say.
    if positions_1N is None or kwargs.get("use_vmap"):
        return sdpa_mask(*args, **kwargs)
    places = _places(positions_1N)
    window = kwargs.get("local_size")
    if window is not None and places.shape[-1] > window:
        return sdpa_mask(*args, **kwargs)
    return places


def _places(positions_1N: Tensor) -> Tensor:
    """Return the token at each place of the padded rows, and the place of each token: [1, 2, S, T].

    Pads are copies of a token, as nothing reads them. Places are those of the first N numbers.
    """
    starts_S = (positions_1N[0] == 0).nonzero().squeeze(1)
    num_tokens = positions_1N.shape[1]
    ends_S = torch.cat([starts_S[1:], starts_S.new_tensor([num_tokens])])
    longest = int((ends_S - starts_S).max())
    columns_T = torch.arange(longest, device=starts_S.device)
    tokens_ST = torch.minimum(starts_S.unsqueeze(1) + columns_T, ends_S.unsqueeze(1) - 1)
    row_N = (positions_1N[0] == 0).cumsum(0) - 1
    place_ST = torch.zeros_like(tokens_ST)
    place_ST.view(-1)[:num_tokens] = row_N * longest + positions_1N[0]
    return torch.stack([tokens_ST, place_ST]).unsqueeze(0)


def _attention(
    module: nn.Module,
    query_1HND: Tensor,
    key_1HND: Tensor,
    value_1HND: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,  # noqa: ANN401 - the kernel's
) -> tuple[Tensor, None]:
    """Attend as transformers' SDPA does, and within the sequences of a packed row."""
    states = (query_1HND, key_1HND, value_1HND)
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, *states, attention_mask, **kwargs)
    num_tokens = query_1HND.shape[2]
    (tokens_ST, place_ST), place_N = attention_mask[0], attention_mask[0, 1].view(-1)[:num_tokens]
    del place_ST
    padded = [_padded(state, tokens_ST, place_N) for state in states]
    output_STHD, _ = sdpa_attention_forward(module, *padded, None, **kwargs)
    rows = output_STHD.flatten(0, 1)
    return rows.index_select(0, place_N).unsqueeze(0), None


def _padded(state_1HND: Tensor, tokens_ST: Tensor, place_N: Tensor) -> Tensor:
    """Return states of tokens as padded rows, [S, H, T, D]."""
    rows_NHD = state_1HND[0].transpose(0, 1)
    padded: Tensor = _Picked.apply(rows_NHD.flatten(1), tokens_ST.view(-1), place_N)  # type: ignore[no-untyped-call] # torch has no type for it
    return padded.view(*tokens_ST.shape, *rows_NHD.shape[1:]).transpose(1, 2)


class _Picked(torch.autograd.Function):
    """Rows that tokens are copied to; pads have no gradient, so each token's is that of one row."""

    @staticmethod
    @override
    def forward(ctx: Any, rows_NC: Tensor, tokens_P: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        return rows_NC.index_select(0, tokens_P)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, gradient_PC: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return gradient_PC.index_select(0, place_N), None, None


AttentionInterface.register("sdpa", _attention)
AttentionMaskInterface.register("sdpa", _mask)
