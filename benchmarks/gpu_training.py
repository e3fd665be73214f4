"""Speed of training and scoring on one GPU: about 1 B random weights in bfloat16.

`torchrun benchmarks/gpu_training.py --attention SDPA --results FILE` prints a table and writes the
numbers as JSON. It runs the trainer's own network, plan of micro-batches and engine (ZeRO 2). Run
it alone on the card.

MFU counts what the model must compute, not what is recomputed: 2 FLOPs per weight and token forward
and 4 backward, and the causal half of attention, over the card's dense bfloat16 rate.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM

from gpu_measuring import Row, Size, make_model, peak_memory, run, sequences, timed
from rlhf_trainer.algorithms.losses import cross_entropy
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.config.model import Attention
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.models.batch import SequenceBatch, batched, response_mask
from rlhf_trainer.models.policy import Policy, log_probs

PEAK_FLOPS = 989e12
"""Dense bfloat16 rate of H100 SXM and H200, by NVIDIA's data sheets."""


def num_weights(lm: LlamaForCausalLM) -> int:
    """Return the weights that every token is multiplied with: all but the embedding."""
    embedding = lm.get_input_embeddings().parameters()
    return sum(p.numel() for p in lm.parameters()) - sum(p.numel() for p in embedding)


def flops(lm: LlamaForCausalLM, lengths: Sequence[int], passes: int) -> float:
    """Return what whole sequences cost; a forward pass counts 1, with a backward pass 3.

    Attention: 2 products of length x length x width per layer, of which causality leaves half.
    """
    width = lm.config.num_hidden_layers * lm.config.hidden_size
    dense = 2.0 * num_weights(lm) * sum(lengths)
    attention = 2.0 * width * sum(length**2 for length in lengths)
    return passes * (dense + attention)


class Trainer:
    """A policy in the trainer's engine, as SFT updates it and PPO scores with it."""

    def __init__(self, size: Size, attention: Attention, ranks: Ranks) -> None:
        self.size, self.ranks = size, ranks
        self.lm = make_model(size, attention, ranks.device)
        self.policy = Policy(self.lm, temperature=1.0)
        groups = [ParameterGroup(list(self.policy.parameters()), 1e-5)]
        optimizer, sharding = OptimizerConfig(), DeepSpeedConfig(zero_stage=2)
        self.engine = TrainingEngine(self.policy, groups, optimizer, sharding, ranks)

    def _plan(self, rows: list[NDArray[np.int64]], *, packing: bool) -> list[list[int]]:
        return plan_step(
            [len(row) for row in rows],
            budget_tokens=self.size.budget_tokens,
            rank=0,
            world_size=1,
            packing=packing,
        )

    def _batch(
        self, rows: list[NDArray[np.int64]], part: list[int], *, packing: bool
    ) -> SequenceBatch:
        chosen = [rows[index] for index in part]
        masks = [response_mask(1, len(row)) for row in chosen]
        return batched(chosen, masks, self.ranks.device, packing=packing)

    def update(self, rows: list[NDArray[np.int64]], *, packing: bool) -> None:
        """Take one update over all rows."""
        num_tokens = sum(len(row) - 1 for row in rows)

        def loss_of(part: list[int]) -> Tensor:
            batch = self._batch(rows, part, packing=packing)
            outputs = self.engine(
                batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT
            )
            return cross_entropy(outputs[0], num_tokens=num_tokens)

        plan = self._plan(rows, packing=packing)
        self.engine.update(plan, loss_of, learning_rate_factor=1.0)

    def score(self, rows: list[NDArray[np.int64]], *, packing: bool) -> None:
        """Return the log-probabilities of all rows to the host."""
        for part in self._plan(rows, packing=packing):
            batch = self._batch(rows, part, packing=packing)
            batch.split(log_probs(self.policy, batch))


def measure_training(size: Size, attention: Attention, ranks: Ranks) -> Iterator[Row]:
    """Yield updates and scoring of dense and ragged rows, padded and packed."""
    trainer = Trainer(size, attention, ranks)
    for ragged, packing in ((False, False), (True, False), (True, True)):
        rows = sequences(size, ragged=ragged)
        lengths = [len(row) for row in rows]
        layout = f"{'ragged' if ragged else 'dense'}, {'packed' if packing else 'padded'}"
        works: list[tuple[str, Callable[..., None], int]] = [
            ("update", trainer.update, 3),
            ("score", trainer.score, 1),
        ]
        for what, work, passes in works:
            with peak_memory(ranks.device) as peak:
                seconds, spread = timed(lambda: work(rows, packing=packing), ranks.device)  # noqa: B023 - run at once
                mfu = flops(trainer.lm, lengths, passes) / seconds / PEAK_FLOPS
                yield Row(
                    what, attention, layout, seconds, spread, sum(lengths) / seconds, mfu, peak()
                )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, measure_training))
