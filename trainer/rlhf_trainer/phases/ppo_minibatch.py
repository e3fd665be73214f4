"""A minibatch of a rollout: its micro-batches' tensors, and what its update adds up.

Legend: B = rows of the step, T = longest response, N = response tokens of a micro-batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.phases.ppo_targets import Targets
from rlhf_trainer.rollout.experience import Experience


@dataclass
class UpdateSums:
    """Sums over the updates of one rollout, of this rank until they are reduced."""

    tokens: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    clipped_tokens: float = 0.0
    approx_kl_nats: float = 0.0
    updates: int = 0
    gradient_norm: float = 0.0
    critic_gradient_norm: float = 0.0
    """Of a critic with an engine of its own."""

    def add(self, part: "UpdateSums") -> None:
        """Add the sums of a part."""
        for name, value in vars(part).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Minibatch:
    """The rows of one update, over all ranks and micro-batches."""

    experience: Experience
    targets: Targets
    num_tokens: int
    """Response tokens, over all ranks: what losses are divided by."""
    device: torch.device
    packing: bool

    def batch(self, rows: Sequence[int]) -> SequenceBatch:
        """Return some rows as a batch whose targets are their response tokens."""
        return self.experience.sampled.batch(rows, self.device, packing=self.packing)

    def flat(self, values_BT: Tensor, rows: Sequence[int]) -> Tensor:
        """Return values at the response tokens of some rows, [N], in the order of their batch."""
        picked = list(rows)
        return values_BT[picked][self.experience.mask_BT[picked]].to(self.device)


class LocalSums:
    """What this rank's micro-batches add up to: tensors, so that nothing waits for a device."""

    def __init__(self) -> None:
        self.policy: list[Tensor] = []
        self.value: list[Tensor] = []
        self.clipped: list[Tensor] = []
        self.approx_kl: list[Tensor] = []

    def values(self) -> list[float]:
        """Return the sums, in the order of the lists."""
        return [
            float(torch.stack(part).sum())
            for part in (self.policy, self.value, self.clipped, self.approx_kl)
        ]
