"""In which order records are visited: shuffled each epoch, in global batches that ranks share.

Every rank computes the same order from the seed, and `step_plan` its share of a batch: nothing is
exchanged, and the order of a resumed phase is that of an uninterrupted one.
"""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Tail(StrEnum):
    """What becomes of an epoch's last records when they do not fill a batch."""

    SHORT_BATCH = "ShortBatch"
    """They are a smaller batch: training sees every record once per epoch."""
    NEXT_EPOCH = "NextEpoch"
    """They are filled up from the next epoch: every rollout is whole."""


def epoch_order(size: int, seed: int, epoch: int) -> Indices:
    """Return the order of `size` records in one epoch, counted from 0."""
    return np.random.default_rng([seed, epoch]).permutation(size)


class BatchStream:
    """Endless global batches of indices, epoch after epoch; each epoch visits every record once."""

    def __init__(
        self, size: int, batch_size: int, *, seed: int, tail: Tail = Tail.SHORT_BATCH
    ) -> None:
        if size < 1 or batch_size < 1:
            message = f"size={size}, batch_size={batch_size}: both must be 1 or more"
            raise ValueError(message)
        self._size = size
        self._batch_size = batch_size
        self._seed = seed
        self._tail = tail
        self._epoch = 0
        self._position = 0
        self._order = epoch_order(size, seed, 0)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._epoch

    def next_batch(self) -> Indices:
        """Return the indices of the next batch, over all ranks."""
        parts = [self._take(self._batch_size)]
        while self._tail is Tail.NEXT_EPOCH and (
            missing := self._batch_size - sum(map(len, parts))
        ):
            parts.append(self._take(missing))
        return np.concatenate(parts)

    def _take(self, count: int) -> Indices:
        """Return up to `count` indices of this epoch, and begin the next one at its end."""
        taken = self._order[self._position : self._position + count]
        self._position += len(taken)
        if self._position == self._size:
            self._move_to(self._epoch + 1, 0)
        return taken

    def state(self) -> dict[str, int]:
        """Return where the stream stands, for a checkpoint."""
        return {"epoch": self._epoch, "position": self._position, "size": self._size}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go to where `state` was taken.

        Raises:
            ValueError: it belongs to another number of records.
        """
        if state["size"] != self._size:
            message = f"size={state['size']}: this stream has {self._size} records"
            raise ValueError(message)
        self._move_to(state["epoch"], state["position"])

    def _move_to(self, epoch: int, position: int) -> None:
        if epoch != self._epoch:
            self._order = epoch_order(self._size, self._seed, epoch)
        self._epoch, self._position = epoch, position
