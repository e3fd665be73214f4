"""Right-padded batches of token sequences, and which of their positions predict response tokens.

Right padding under causal attention needs no attention mask: no real token ever sees a pad, and
outputs at pads are never read. Legend: B = sequences, T = tokens, N = response tokens of the batch,
row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """int64, right-padded."""
    predict_N: Tensor
    """int64: flat position whose output predicts the response token, one before it."""
    target_N: Tensor
    """int64: the response tokens."""
    last_B: Tensor
    """int64: flat position of each sequence's last token."""
    counts: tuple[int, ...]
    """Response tokens of each row; N in all."""

    def split(self, values_N: Tensor) -> list[NDArray[np.float32]]:
        """Return per-token values as one float32 array per row."""
        pieces = torch.split(values_N.detach().float().cpu(), list(self.counts))
        return [piece.numpy() for piece in pieces]


def collate(
    sequences: Sequence[NDArray[np.integer]],
    masks: Sequence[NDArray[np.bool_]],
    device: torch.device,
) -> SequenceBatch:
    """Return the batch of `sequences` whose response tokens `masks` marks.

    A first token is never a target: nothing predicts it. No sequences at all give a batch of one
    pad and no targets, so that a rank without work still takes part in collective operations.
    """
    if not sequences:
        sequences, masks = [np.zeros(1, np.int64)], [np.zeros(1, np.bool_)]
    width = max(len(sequence) for sequence in sequences)
    tokens = np.full((len(sequences), width), PAD_FILLER, np.int64)
    predict, target, last, counts = [], [], [], []
    for row, (sequence, mask) in enumerate(zip(sequences, masks, strict=True)):
        tokens[row, : len(sequence)] = sequence
        positions = np.flatnonzero(mask[1:])
        predict.append(row * width + positions)
        target.append(np.asarray(sequence[1:], np.int64)[positions])
        last.append(row * width + len(sequence) - 1)
        counts.append(len(positions))

    def move(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return SequenceBatch(
        move(tokens),
        move(np.concatenate(predict).astype(np.int64)),
        move(np.concatenate(target)),
        move(np.array(last, np.int64)),
        tuple(counts),
    )


def ended(sequence: NDArray[np.int64], eos_token: int) -> NDArray[np.int64]:
    """Return a sequence that ends with the end-of-sequence token, where reward models are read."""
    return sequence if sequence[-1] == eos_token else np.append(sequence, eos_token)


def response_mask(prompt_length: int, total_length: int) -> NDArray[np.bool_]:
    """Return the mask of a sequence that is a prompt followed by a response."""
    return np.arange(total_length) >= prompt_length
