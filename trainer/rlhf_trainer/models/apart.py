"""SDPA of a packed row, sequence by sequence.

transformers masks a packed row for SDPA as a whole: a block-diagonal mask over all of its tokens,
which costs time and memory by the square of the row. Here queries, keys and values are laid out as
padded rows for the kernel alone, which then needs no mask; everything else still computes the
packed row. Its positions are passed down in the mask's place, so that a layer that is computed
again for its backward pass finds them, too.
Legend: N = tokens of the row, P = places of tokens in padded rows, pads included, S = sequences of
about one length, T = their places, H = heads, D = size of a head, C = H x D.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from typing_extensions import override

from rlhf_trainer.contract.limits import WIDTH_STEP

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


@dataclass(frozen=True)
class _Layout:
    """Padded rows of sequences, those of about one length together."""

    shapes: tuple[tuple[int, int], ...]
    """(S, T) of each group."""
    token_P: Tensor
    """int64: the token at each place. Pads are copies of one, as nothing reads them."""
    place_N: Tensor
    """int64: the place of each token."""

    @classmethod
    def of(cls, positions_N: Tensor) -> Self:
        starts = (positions_N == 0).nonzero().squeeze(1).tolist()
        ends = [*starts[1:], len(positions_N)]
        spans = sorted(zip(starts, ends, strict=True), key=lambda span: span[1] - span[0])
        shapes, tokens = [], []
        for width, group in groupby(spans, key=_width):
            rows = torch.tensor(list(group))
            columns_T = torch.arange(width)
            tokens.append(torch.minimum(rows[:, :1] + columns_T, rows[:, 1:] - 1).flatten())
            shapes.append((len(rows), width))
        token_P = torch.cat(tokens)
        is_token_P = torch.cat([token_P.new_tensor([-1]), token_P[:-1]]) != token_P
        place_N = torch.empty_like(positions_N, device="cpu")
        place_N[token_P[is_token_P]] = is_token_P.nonzero().squeeze(1)
        device = positions_N.device
        return cls(tuple(shapes), token_P.to(device), place_N.to(device))

    def padded(self, state_1HND: Tensor) -> list[Tensor]:
        """Return states of tokens as padded rows, [S, H, T, D] for each group."""
        rows_NHD = state_1HND[0].transpose(0, 1)
        picked: Tensor = _Picked.apply(rows_NHD.flatten(1), self.token_P, self.place_N)  # type: ignore[no-untyped-call] # torch has no type for it
        parts = picked.split([count * width for count, width in self.shapes])
        return [
            part.view(*shape, *rows_NHD.shape[1:]).transpose(1, 2)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def packed(self, outputs: list[Tensor]) -> Tensor:
        """Return [S, T, H, D] of each group as the row's, [1, N, H, D]."""
        rows = torch.cat([output.flatten(0, 1) for output in outputs])
        return rows.index_select(0, self.place_N).unsqueeze(0)


def _width(span: tuple[int, int]) -> int:
    start, end = span
    return -(-(end - start) // WIDTH_STEP) * WIDTH_STEP


class _Picked(torch.autograd.Function):
    """Rows that tokens are copied to; pads have no gradient, so each token's is that of one row."""

    @staticmethod
    @override
    def forward(ctx: Any, rows_NC: Tensor, token_P: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        return rows_NC.index_select(0, token_P)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, gradient_PC: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return gradient_PC.index_select(0, place_N), None, None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401 - passed on
    """Return what SDPA's layers get for a mask: positions, where they are all that it says."""
    positions_1N = _positions.get()
    # Patterns of a model's own are for the plain mask to say.
    if positions_1N is None or kwargs.get("use_vmap"):
        return sdpa_mask(*args, **kwargs)
    window = kwargs.get("local_size")
    if window is not None and int(positions_1N.max()) >= window:
        return sdpa_mask(*args, **kwargs)
    mask: Any = positions_1N.view(1, 1, 1, -1)
    mask.rows_apart = _Layout.of(positions_1N[0])  # for all layers
    passed: Tensor = mask
    return passed


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
    known: _Layout | None = getattr(attention_mask, "rows_apart", None)
    layout = known or _Layout.of(attention_mask.view(-1))
    outputs = [
        sdpa_attention_forward(module, query, key, value, None, **kwargs)[0]
        for query, key, value in zip(*map(layout.padded, states), strict=True)
    ]
    return layout.packed(outputs), None


AttentionInterface.register("sdpa", _attention)
AttentionMaskInterface.register("sdpa", _mask)
