"""What a rollout backend gives: responses, with their log-probabilities as sampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Response:
    """One sampled response."""

    tokens: NDArray[np.int64]
    """The end-of-sequence token included, if it was sampled."""
    log_probs: NDArray[np.float32]
    """Of each token, in nats, at the sampling temperature."""
    entropies: NDArray[np.float32]
    """Of the distribution that each token was drawn from, in nats."""
    ended: bool
    """Whether the end-of-sequence token was sampled."""


class RolloutBackend(Protocol):
    """Samples from the current policy."""

    def sample(
        self, prompts: Sequence[NDArray[np.integer]], uniforms: NDArray[np.float64]
    ) -> list[Response]:
        """Return one response per prompt.

        uniforms: [prompts, longest response in tokens] in [0, 1), one draw per token, so that a
        response depends on its own row alone: not on batching, world size or who finishes first.
        """


def row_uniforms(
    seed: int, step: int, rows: Sequence[int], maximum_tokens: int
) -> NDArray[np.float64]:
    """Return the draws of some rows of a step's batch, [rows, maximum_tokens] in [0, 1)."""
    return np.stack(
        [np.random.default_rng((seed, step, row)).random(maximum_tokens) for row in rows]
    ).reshape(len(rows), maximum_tokens)
