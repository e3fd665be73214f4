"""Scoring whole sequences with a frozen reward model, shared out over the ranks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.batch import batched
from rlhf_trainer.models.scalar_head import ScalarHead, ScoreNormalisation


class Scorer:
    """A reward model that scores token sequences at their last token."""

    def __init__(
        self,
        network: ScalarHead,
        budget_tokens: int,
        ranks: Ranks,
        heartbeat: Callable[[], None],
        *,
        packing: bool = False,
    ) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._budget_tokens = budget_tokens
        self._ranks = ranks
        self._heartbeat = heartbeat
        self._packing = packing
        self._normalisation = ScoreNormalisation.of(network.classifier)

    @torch.no_grad()
    def raw(self, sequences: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Return raw scores of sequences that all ranks hold; each rank works through its share."""
        plan = plan_step(
            [len(sequence) for sequence in sequences],
            budget_tokens=self._budget_tokens,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            packing=self._packing,
        )
        mine: dict[int, float] = {}
        for rows in filter(None, plan):
            batch = batched(
                [sequences[row] for row in rows],
                [np.zeros(len(sequences[row]), np.bool_) for row in rows],
                self._ranks.device,
                packing=self._packing,
            )
            self._heartbeat()
            scores_B = self._network(batch.tokens_BT, batch.last_B, batch.positions_BT)
            mine.update(zip(rows, scores_B.tolist(), strict=True))
        scores = {row: score for part in self._ranks.gather(mine) for row, score in part.items()}
        return np.array([scores[row] for row in range(len(sequences))])

    def normalised(self, sequences: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Return scores under the map stored with the model: demonstrations score 0."""
        return self._normalisation.apply(self.raw(sequences))
