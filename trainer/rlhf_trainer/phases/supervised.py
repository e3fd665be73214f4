"""What SFT and the reward model share: updates on a fixed data set, over global batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_trainer.algorithms.schedule import learning_rate_factor
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.errors import DivergedError
from rlhf_trainer.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class UpdateStats:
    """What one update tells about itself."""

    loss: float
    gradient_norm: float


def total_steps(num_rows: int, batch_size: int, epochs: int, maximum_steps: int | None) -> int:
    """Return the number of updates of a phase."""
    steps = epochs * -(-num_rows // batch_size)
    return min(steps, maximum_steps) if maximum_steps is not None else steps


class SupervisedUpdater:
    """Takes updates of one engine, and says when one has diverged."""

    def __init__(
        self,
        engine: TrainingEngine,
        optimizer: OptimizerConfig,
        ranks: Ranks,
        telemetry: Telemetry,
        num_steps: int,
        *,
        packing: bool,
    ) -> None:
        self._engine = engine
        self._optimizer = optimizer
        self._ranks = ranks
        self._telemetry = telemetry
        self._num_steps = num_steps
        self._packing = packing

    def update(
        self,
        step: int,
        lengths: Sequence[int],
        loss_of: Callable[[list[int]], Tensor],
        *,
        num_tokens: int,
    ) -> UpdateStats:
        """Take the update after `step` completed ones.

        lengths: what the batch's rows cost, in tokens. `loss_of` takes indices into them and
        returns their loss over the whole update's denominator. num_tokens: of the batch, which all
        ranks share, without padding.

        Raises:
            DivergedError: the loss or the gradient is not finite.
        """
        factor = learning_rate_factor(
            step,
            self._num_steps,
            schedule=self._optimizer.schedule,
            warmup_steps=self._optimizer.warmup_steps,
            final=self._optimizer.final_learning_rate_fraction,
        )
        plan = plan_step(
            lengths,
            budget_tokens=self._optimizer.tokens_per_micro_batch,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            packing=self._packing,
        )
        losses: list[Tensor] = []

        def counted_loss(rows: list[int]) -> Tensor:
            loss = loss_of(rows)
            losses.append(loss.detach())
            self._telemetry.heartbeat()
            return loss

        norm = self._engine.update(plan, counted_loss, learning_rate_factor=factor)
        local = float(torch.stack(losses).sum())
        loss = require_finite("loss", self._ranks.sums([local])[0], step + 1)
        require_finite("gradient norm", norm, step + 1)
        self._telemetry.set("learning_rate", factor * self._engine.largest_learning_rate)
        self._telemetry.set("gradient_norm", norm)
        self._telemetry.increment("tokens", float(num_tokens), kind="trained")
        return UpdateStats(loss, norm)


def require_finite(name: str, value: float, step: int) -> float:
    """Return `value`.

    Raises:
        DivergedError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise DivergedError(
            f"{name}={value} at step {step}: training has diverged; lower the learning rate, "
            "or look at the data and the model it started from",
            reason="NonFinite",
        )
    return value
