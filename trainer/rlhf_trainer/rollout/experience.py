"""What PPO learns from: a step's responses with everything that was measured of them.

Every rank samples and measures its share of the rows; then all ranks hold all rows. Statistics,
advantages and minibatches are thus the same whatever the number of ranks. Legend: B = rows of the
step, T = longest response.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.batch import SequenceBatch, batched, ended, response_mask
from rlhf_trainer.rollout.protocol import Response, RolloutBackend, row_uniforms

TokenMeasure = Callable[[SequenceBatch], Tensor]
"""From a batch to one number per response token, [N] detached."""


@dataclass(frozen=True)
class Sampled:
    """Prompts and their responses, all rows of a step, on every rank."""

    prompts: Sequence[NDArray[np.integer]]
    responses: Sequence[Response]

    def sequence(self, row: int) -> NDArray[np.int64]:
        """Return prompt and response of a row."""
        prompt = np.asarray(self.prompts[row], np.int64)
        return np.concatenate([prompt, self.responses[row].tokens])

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and response of each row."""
        return [
            len(prompt) + len(response.tokens)
            for prompt, response in zip(self.prompts, self.responses, strict=True)
        ]

    @property
    def mask_BT(self) -> Tensor:
        """True at response tokens."""
        counts = torch.tensor([len(response.tokens) for response in self.responses])
        return torch.arange(int(counts.max())) < counts.unsqueeze(1)

    @property
    def ended_B(self) -> Tensor:
        """Whether each response ended by itself."""
        return torch.tensor([response.ended for response in self.responses])

    def padded(self, rows: Sequence[NDArray[np.float32]]) -> Tensor:
        """Return per-token values of all rows as [B, T], 0 outside responses."""
        return torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(row) for row in rows], batch_first=True
        )

    def batch(
        self, rows: Sequence[int], device: torch.device, *, packing: bool = False
    ) -> SequenceBatch:
        """Return some rows as a batch whose targets are their response tokens.

        Last tokens are not computed, as nothing follows them.
        """
        sequences = [self.sequence(row) for row in rows]
        masks = [
            response_mask(len(self.prompts[row]), len(sequence))
            for row, sequence in zip(rows, sequences, strict=True)
        ]
        return batched(sequences, masks, device, packing=packing, whole=False)

    def scorable(self, eos_token: int) -> list[NDArray[np.int64]]:
        """Return what the reward model reads: sequences that end with the end-of-sequence token.

        A response cut by the length limit is scored as if it ended there: the reward model has only
        ever seen, and is only ever read at, that token.
        """
        return [ended(self.sequence(row), eos_token) for row in range(len(self.prompts))]


def sample(
    backend: RolloutBackend,
    prompts: Sequence[NDArray[np.integer]],
    ranks: Ranks,
    *,
    seed: int,
    step: int,
    maximum_tokens: int,
) -> Sampled:
    """Sample a response to every prompt, each rank its share, and hand all to all ranks."""
    mine = range(ranks.rank, len(prompts), ranks.world_size)
    responses: list[Response] = []
    if mine:
        uniforms = row_uniforms(seed, step, mine, maximum_tokens)
        responses = backend.sample([prompts[row] for row in mine], uniforms)
    by_rank = ranks.gather(responses)
    ordered = [
        by_rank[row % ranks.world_size][row // ranks.world_size] for row in range(len(prompts))
    ]
    return Sampled(prompts, ordered)


def measure(
    sampled: Sampled,
    measure_batch: TokenMeasure,
    ranks: Ranks,
    heartbeat: Callable[[], None],
    *,
    budget_tokens: int,
    packing: bool = False,
) -> Tensor:
    """Return a number per response token, [B, T] float32 on the CPU; ranks share the work."""
    plan = plan_step(
        sampled.lengths,
        budget_tokens=budget_tokens,
        rank=ranks.rank,
        world_size=ranks.world_size,
        packing=packing,
    )
    mine: dict[int, NDArray[np.float32]] = {}
    for rows in plan:
        batch = sampled.batch(rows, ranks.device, packing=packing)
        values = measure_batch(batch)
        heartbeat()
        mine.update(zip(rows, batch.split(values), strict=False))
    measured = {row: values for part in ranks.gather(mine) for row, values in part.items()}
    return sampled.padded([measured[row] for row in range(len(sampled.prompts))])


@dataclass(frozen=True)
class Experience:
    """A step's responses as PPO sees them; [B, T] is float32 on the CPU, 0 outside the mask."""

    sampled: Sampled
    mask_BT: Tensor
    logp_BT: Tensor
    """Log-probabilities under the policy that sampled, in nats at the sampling temperature."""
    ref_logp_BT: Tensor
    """Log-probabilities under the reference, at the same temperature."""
    entropy_BT: Tensor
    """Of the sampling distribution, in nats."""
    value_BT: Tensor
    """The critic's estimate of the return before each token, in score units."""
    score_B: Tensor
    """Normalised score of each response, before penalties."""
