"""A plain twin of a model whose weights are sharded: it borrows them while they are gathered.

Through the engine's hooks every decoded token would gather every layer; the twin has no hooks.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel


class Borrower:
    """The twin, made before an engine takes the owner; between loans it holds no weights."""

    def __init__(self, owner: PreTrainedModel) -> None:
        self._owner = owner
        # Copied without weights: else the device would hold them twice for a moment.
        hollow: dict[int, object] = {
            id(weight): nn.Parameter(weight.new_empty(0), requires_grad=weight.requires_grad)
            for weight in owner.parameters()
        }
        self.model = copy.deepcopy(owner, hollow)

    @contextmanager
    def lent(self) -> Iterator[PreTrainedModel]:
        """Lend the twin with the owner's weights, which are whole for as long."""
        for mine, theirs in zip(self.model.parameters(), self._owner.parameters(), strict=True):
            mine.data = theirs.data
        try:
            yield self.model
        finally:
            self._give_back()

    def _give_back(self) -> None:
        for parameter in self.model.parameters():
            parameter.data = parameter.data.new_empty(0)
