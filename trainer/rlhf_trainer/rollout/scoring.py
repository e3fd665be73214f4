"""Scoring whole sequences with a frozen reward model, shared out over the ranks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.batch import SequenceBatch, batched
from rlhf_trainer.models.scalar_head import ScalarHead, ScoreNormalisation


class Scorer:
    """A reward model that scores token sequences at their last token."""

    def __init__(
        self,
        scores: Callable[[SequenceBatch], Tensor],
        normalisation: ScoreNormalisation,
        budget_tokens: int,
        ranks: Ranks,
        heartbeat: Callable[[], None],
        *,
        packing: bool = False,
    ) -> None:
        """Make a scorer of whatever returns a batch's raw scores at its last tokens, [B]."""
        self._scores = scores
        self._normalisation = normalisation
        self._budget_tokens = budget_tokens
        self._ranks = ranks
        self._heartbeat = heartbeat
        self._packing = packing

    @classmethod
    def of(
        cls,
        classifier: PreTrainedModel,
        budget_tokens: int,
        ranks: Ranks,
        heartbeat: Callable[[], None],
        *,
        packing: bool = False,
    ) -> "Scorer":
        """Return the scorer of a classifier, which is frozen."""
        network = ScalarHead(classifier).eval().requires_grad_(requires_grad=False)
        normalisation = ScoreNormalisation.of(classifier)

        def scores(batch: SequenceBatch) -> Tensor:
            scores_B: Tensor = network(batch.tokens_BT, batch.last_B, batch.positions_BT)
            return scores_B

        return cls(scores, normalisation, budget_tokens, ranks, heartbeat, packing=packing)

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
        for rows in plan:
            batch = batched(
                [sequences[row] for row in rows],
                [np.zeros(len(sequences[row]), np.bool_) for row in rows],
                self._ranks.device,
                packing=self._packing,
            )
            self._heartbeat()
            # A rank without rows scores one pad: others may need it to gather weights.
            mine.update(zip(rows, self._scores(batch).tolist()[: len(rows)], strict=True))
        scores = {row: score for part in self._ranks.gather(mine) for row, score in part.items()}
        return np.array([scores[row] for row in range(len(sequences))])

    def normalised(self, sequences: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Return scores under the map stored with the model: demonstrations score 0."""
        return self._normalisation.apply(self.raw(sequences))
