"""Scoring responses with a frozen reward model, shared out over the ranks.

A reward model that reads the policy's tokens is given them; one with a tokenizer of its own is
given text, and is run as plain transformers runs it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.batch import SequenceBatch, batched
from rlhf_trainer.models.packed_linear import packed
from rlhf_trainer.models.scalar_head import ScalarHead, ScoreNormalisation
from rlhf_trainer.rollout.experience import Sampled

Sequences = Sequence[NDArray[np.integer]]


class ResponseScorer(Protocol):
    """Says how good responses are."""

    def responses(self, prompts: Sequence[PromptTokens], sampled: Sampled) -> NDArray[np.float64]:
        """Return the normalised score of each response; all ranks hold all rows and get all."""


class Scorer:
    """A reward model that scores token sequences at their last token."""

    def __init__(
        self,
        scores: Callable[[SequenceBatch], Tensor],
        network: nn.Module,
        normalisation: ScoreNormalisation,
        budget_tokens: int,
        ranks: Ranks,
        heartbeat: Callable[[], None],
        *,
        packing: bool = False,
    ) -> None:
        """Make a scorer of whatever returns a batch's raw scores at its last tokens, [B].

        network: what computes them.
        """
        self._scores, self._network = scores, network
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

        return cls(scores, network, normalisation, budget_tokens, ranks, heartbeat, packing=packing)

    @torch.no_grad()
    def raw(self, sequences: Sequences) -> NDArray[np.float64]:
        """Return raw scores of sequences that all ranks hold; each rank works through its share."""

        def score(rows: Sequences) -> Tensor:
            masks = [np.zeros(len(row), np.bool_) for row in rows]
            return self._scores(batched(rows, masks, self._ranks.device, packing=self._packing))

        with packed(self._network):
            return _shared_out(
                sequences,
                score,
                self._budget_tokens,
                self._ranks,
                self._heartbeat,
                packing=self._packing,
            )

    def normalised(self, sequences: Sequences) -> NDArray[np.float64]:
        """Return scores under the map stored with the model: demonstrations score 0."""
        return self._normalisation.apply(self.raw(sequences))


class TokenScorer(ResponseScorer):
    """A reward model that reads the policy's own tokens."""

    def __init__(self, scorer: Scorer, eos_token: int) -> None:
        self._scorer, self._eos_token = scorer, eos_token

    @override
    def responses(self, prompts: Sequence[PromptTokens], sampled: Sampled) -> NDArray[np.float64]:
        return self._scorer.normalised(sampled.scorable(self._eos_token))


class TextScorer(ResponseScorer):
    """A reward model with a tokenizer of its own.

    Scores are the classifier's own output, whatever its head, under the affine map in its
    configuration: models from elsewhere have none, and are taken as they are.
    """

    def __init__(
        self,
        classifier: PreTrainedModel,
        bridge: Bridge,
        budget_tokens: int,
        ranks: Ranks,
        heartbeat: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._classifier = classifier.eval().requires_grad_(requires_grad=False)
        self._config = classifier.config.get_text_config()
        self._pad_token = self._config.pad_token_id
        self._bridge = bridge
        self._budget_tokens = budget_tokens
        self._ranks = ranks
        self._heartbeat, self._note = heartbeat, note
        self._normalisation = ScoreNormalisation.of(classifier)

    @override
    @torch.no_grad()
    def responses(self, prompts: Sequence[PromptTokens], sampled: Sampled) -> NDArray[np.float64]:
        tokens = [response.tokens for response in sampled.responses]
        sequences, num_cut = self._bridge.encode(prompts, tokens)
        if num_cut:
            self._note(
                f"the reward model reads {self._bridge.maximum_tokens} tokens: {num_cut} of "
                f"{len(sequences)} prompts with their responses were longer and lost their "
                "beginning"
            )
        with packed(self._classifier):
            raw = _shared_out(
                sequences, self._score, self._budget_tokens, self._ranks, self._heartbeat
            )
        return self._normalisation.apply(raw)

    def _score(self, rows: Sequences) -> Tensor:
        """Return the classifier's output, [B]: the class finds each end by the padding token."""
        if not rows:
            return torch.zeros(0)
        pad = self._pad_token if self._pad_token is not None else _absent_token(rows)
        self._config.pad_token_id = pad
        width = max(len(row) for row in rows)
        tokens = np.full((len(rows), width), pad, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = row
            mask[index, : len(row)] = 1
        output = self._classifier(
            input_ids=torch.from_numpy(tokens).to(self._ranks.device),
            attention_mask=torch.from_numpy(mask).to(self._ranks.device),
        )
        scores: Tensor = output.logits[:, 0].float()
        return scores


def _absent_token(rows: Sequences) -> int:
    """Return a token that no row holds: as padding it leaves the reading at each last token."""
    present = set(np.concatenate(rows).tolist())
    return next(token for token in range(len(present) + 1) if token not in present)


def _shared_out(
    sequences: Sequences,
    score: Callable[[Sequences], Tensor],
    budget_tokens: int,
    ranks: Ranks,
    heartbeat: Callable[[], None],
    *,
    packing: bool = False,
) -> NDArray[np.float64]:
    """Return the score of each sequence; each rank works through its share.

    All ranks call `score` as often, with no rows at the last: others may need it to gather weights.
    """
    plan = plan_step(
        [len(sequence) for sequence in sequences],
        budget_tokens=budget_tokens,
        rank=ranks.rank,
        world_size=ranks.world_size,
        packing=packing,
    )
    mine: dict[int, float] = {}
    for rows in plan:
        heartbeat()
        scored = score([sequences[row] for row in rows]).tolist()
        mine.update(zip(rows, scored[: len(rows)], strict=True))
    scores = {row: value for part in ranks.gather(mine) for row, value in part.items()}
    return np.array([scores[row] for row in range(len(sequences))])
