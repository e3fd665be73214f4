"""Batches of token sequences, and which of their positions predict response tokens.

Right padding under causal attention needs no attention mask: no real token ever sees a pad, and
outputs at pads are never read. Packed sequences share one row; where positions restart,
transformers lets no token see an earlier sequence. Legend: B = rows, T = tokens, N = response
tokens of the batch, sequence by sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAD_FILLER = 0
"""Token id at padded positions; any id serves, as nothing reads them."""


@dataclass(frozen=True)
class SequenceBatch:
    """Tokens of a micro-batch and the flat positions (b * T + t) of interest."""

    tokens_BT: Tensor
    """int64: right-padded, or one row of whole sequences if packed."""
    predict_N: Tensor
    """int64: flat position whose output predicts the response token, one before it."""
    target_N: Tensor
    """int64: the response tokens."""
    last_B: Tensor
    """int64: flat position of each sequence's last token that is computed."""
    counts: tuple[int, ...]
    """Response tokens of each sequence; N in all."""
    positions_BT: Tensor | None = None
    """int64: each token's place in its own sequence if packed; padded rows need none."""

    def split(self, values_N: Tensor) -> list[NDArray[np.float32]]:
        """Return per-token values as one float32 array per sequence."""
        pieces = torch.split(values_N.detach().float().cpu(), list(self.counts))
        return [piece.numpy() for piece in pieces]


def collate(
    sequences: Sequence[NDArray[np.integer]],
    masks: Sequence[NDArray[np.bool_]],
    device: torch.device,
    *,
    whole: bool = True,
) -> SequenceBatch:
    """Return the batch of `sequences` whose response tokens `masks` marks.

    A first token is never a target: nothing predicts it. No sequences at all give a batch of one
    pad and no targets, so that a rank without work still takes part in collective operations.

    whole: without it, last tokens are targets only and not computed, as they predict nothing.
    """
    if not sequences:
        sequences, masks = [np.zeros(1, np.int64)], [np.zeros(1, np.bool_)]
    inputs = _inputs(sequences, whole=whole)
    width = max(map(len, inputs))
    tokens = np.full((len(inputs), width), PAD_FILLER, np.int64)
    for row, sequence in enumerate(inputs):
        tokens[row, : len(sequence)] = sequence
    spans = [(row * width, row * width + len(sequence)) for row, sequence in enumerate(inputs)]
    return _batch(tokens, None, sequences, masks, spans, device)


def pack(
    sequences: Sequence[NDArray[np.integer]],
    masks: Sequence[NDArray[np.bool_]],
    device: torch.device,
    *,
    whole: bool = True,
) -> SequenceBatch:
    """Return the batch that `collate` returns, as one row [1, sum of lengths] without padding.

    `models.packing` says whether a network keeps the sequences of a row apart.
    """
    if not sequences:
        sequences, masks = [np.zeros(1, np.int64)], [np.zeros(1, np.bool_)]
    inputs = _inputs(sequences, whole=whole)
    tokens = np.concatenate(inputs).astype(np.int64)[np.newaxis]
    positions = np.concatenate([np.arange(len(sequence)) for sequence in inputs])[np.newaxis]
    ends = list(accumulate(map(len, inputs)))
    return _batch(tokens, positions, sequences, masks, list(pairwise([0, *ends])), device)


def _inputs(
    sequences: Sequence[NDArray[np.integer]], *, whole: bool
) -> Sequence[NDArray[np.integer]]:
    if whole:
        return sequences
    return [sequence[: max(1, len(sequence) - 1)] for sequence in sequences]


def batched(
    sequences: Sequence[NDArray[np.integer]],
    masks: Sequence[NDArray[np.bool_]],
    device: torch.device,
    *,
    packing: bool,
    whole: bool = True,
) -> SequenceBatch:
    """Return the sequences packed into one row, or padded; see `collate` for `whole`."""
    return (pack if packing else collate)(sequences, masks, device, whole=whole)


def _batch(
    tokens: NDArray[np.int64],
    positions: NDArray[np.int64] | None,
    sequences: Sequence[NDArray[np.integer]],
    masks: Sequence[NDArray[np.bool_]],
    spans: Sequence[tuple[int, int]],
    device: torch.device,
) -> SequenceBatch:
    """Return the batch of sequences that have these spans of flat positions in `tokens`."""
    predict, target, counts = [], [], []
    for (start, _), sequence, mask in zip(spans, sequences, masks, strict=True):
        before = np.flatnonzero(mask[1:])
        predict.append(start + before)
        target.append(np.asarray(sequence[1:], np.int64)[before])
        counts.append(len(before))

    def move(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return SequenceBatch(
        move(tokens),
        move(np.concatenate(predict).astype(np.int64)),
        move(np.concatenate(target)),
        move(np.array([end - 1 for _, end in spans], np.int64)),
        tuple(counts),
        None if positions is None else move(positions),
    )


def ended(
    sequence: NDArray[np.int64], eos_token: int, *, maximum_tokens: int | None = None
) -> NDArray[np.int64]:
    """Return a sequence that ends with the end-of-sequence token, where reward models are read.

    One that has no room left for it, having been cut to `maximum_tokens`, loses its last token.
    """
    if sequence[-1] == eos_token:
        return sequence
    room = None if maximum_tokens is None else maximum_tokens - 1
    return np.append(sequence[:room], eos_token)


def response_mask(prompt_length: int, total_length: int) -> NDArray[np.bool_]:
    """Return the mask of a sequence that is a prompt followed by a response."""
    return np.arange(total_length) >= prompt_length
