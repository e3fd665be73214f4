"""Networks with one number per position: the reward model and the critic.

Both are sequence classifiers of transformers with one label, so that plain transformers loads what
is exported. That class has no bias; the affine map that makes demonstrations score 0 with unit
spread is kept in its config.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.models.last_layer import hidden_at

MEAN_KEY, STD_KEY = "rlhf_score_mean", "rlhf_score_std"

NORMALISATION = "rlhf_score.json"
"""Where the map stands beside an adapter."""


class ScalarHead(nn.Module):
    """A trunk and a linear head, read at chosen positions."""

    def __init__(self, classifier: PreTrainedModel, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.dropout = dropout

    @property
    def head(self) -> nn.Linear:
        """The linear layer from hidden state to number."""
        head = self.classifier.score
        assert isinstance(head, nn.Linear)  # noqa: S101 - what this class of transformers is
        return head

    @override
    def forward(
        self, tokens_BT: Tensor, positions_N: Tensor, positions_BT: Tensor | None = None
    ) -> Tensor:
        """Return the number at each flat position (b * T + t) of `positions_N`, [N] float32.

        positions_BT: of a packed `SequenceBatch`.
        """
        trunk = self.classifier.base_model
        hidden_NH = hidden_at(trunk, tokens_BT, positions_N, positions_BT)
        if self.dropout:
            hidden_NH = functional.dropout(hidden_NH, self.dropout, self.training)
        numbers_N: Tensor = self.head(hidden_NH).squeeze(-1).float()
        return numbers_N

    @torch.no_grad()
    def reset_head(self, generator: torch.Generator | None) -> None:
        """Draw the head from N(0, 1 / (d + 1)), or set it to zero without a generator.

        Source: OpenAI's lm-human-preferences: reward head of standard deviation 1 / sqrt(d + 1),
        value head 0.
        """
        weight = self.head.weight
        if generator is None:
            weight.zero_()
        else:
            std = (weight.shape[1] + 1) ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)


@dataclass(frozen=True)
class ScoreNormalisation:
    """The affine map from raw to normalised scores: (raw - mean) / std."""

    mean: float
    """Mean raw score of demonstrations: they score 0 (Stiennon et al. 2020, appendix B.1)."""
    std: float
    """Standard deviation of raw scores of the comparisons' responses."""

    def apply(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return normalised scores."""
        return (raw - self.mean) / self.std

    def store(self, classifier: PreTrainedModel) -> None:
        """Keep the map in the config that is exported with the model."""
        setattr(classifier.config, MEAN_KEY, self.mean)
        setattr(classifier.config, STD_KEY, self.std)

    def write(self, folder: Path) -> None:
        """Keep the map beside an adapter, which has no config of its own."""
        text = json.dumps({MEAN_KEY: self.mean, STD_KEY: self.std})
        (folder / NORMALISATION).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ScoreNormalisation":
        """Return the map beside an adapter; one from elsewhere is taken as it is."""
        try:
            values = json.loads((folder / NORMALISATION).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(0.0, 1.0)
        return cls(float(values[MEAN_KEY]), float(values[STD_KEY]))

    @classmethod
    def of(cls, classifier: PreTrainedModel) -> "ScoreNormalisation":
        """Return the map in a model's config; models from elsewhere are taken as they are."""
        config = classifier.config
        return cls(float(getattr(config, MEAN_KEY, 0.0)), float(getattr(config, STD_KEY, 1.0)))
