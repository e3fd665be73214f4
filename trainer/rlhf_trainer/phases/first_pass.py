"""The pass that measures a rollout's values, kept as the first that is learned from.

Values are measured with the weights that the first minibatch starts from, so where a rollout is one
minibatch, the same pass would be made twice. Only the first micro-batch's is kept: its activations
are no more than its update holds anyway.
"""

import torch
from torch import Tensor

from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.phases.ppo_networks import Networks


class FirstPass:
    """Measures values; hands one pass on to the update that follows."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._keep = False
        self._kept: tuple[SequenceBatch, tuple[Tensor, ...]] | None = None

    def begin(self, *, keep: bool) -> None:
        """Begin a rollout; `keep` where all of its rows are the first minibatch to be learned."""
        self.forget()
        # Under ZeRO 3 the next pass takes back the weights that a kept one goes backward through.
        self._keep = keep and not self._networks.valuing_engine.is_sharded

    def values(self, batch: SequenceBatch) -> Tensor:
        """Return the critic's values before each response token, [N] detached."""
        if not self._keep:
            return self._networks.values(batch)
        self._keep = False
        with torch.enable_grad(), recomputed_activations(self._networks.valuing_engine.module):
            outputs = self._networks.valuing_outputs(batch)
        self._kept = batch, outputs
        return outputs[-1].detach()

    def outputs(self, batch: SequenceBatch) -> tuple[Tensor, ...]:
        """Return what the network that gives values answers, values last, with gradient."""
        if self._kept is not None and torch.equal(self._kept[0].tokens_BT, batch.tokens_BT):
            (_, outputs), self._kept = self._kept, None
            return outputs
        return self._networks.valuing_outputs(batch)

    def forget(self) -> None:
        """Let go of a pass that nobody is going to learn from: weights have moved, or will not."""
        self._keep, self._kept = False, None
