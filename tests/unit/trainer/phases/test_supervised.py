"""An update of SFT or the reward model, and what it tells of itself."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from rlhf_trainer.config.sft import SFTConfig
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.phases.supervised import SupervisedUpdater
from rlhf_trainer.telemetry.telemetry import SilentTelemetry


class Engine:
    """Learns nothing."""

    largest_learning_rate = 1e-3

    def update(
        self,
        plan: Iterable[list[int]],
        loss_of: Callable[[list[int]], Tensor],
        *,
        learning_rate_factor: float,
    ) -> float:
        assert learning_rate_factor > 0
        for rows in plan:
            loss_of(rows)
        return 1.0


class Counting(SilentTelemetry):
    """Keeps what is counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, float, dict[str, str]]] = []

    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        self.counted.append((name, amount, labels))


@pytest.mark.parametrize("rank", [0, 1])
def test_update_counts_the_tokens_of_all_ranks_once(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "sums", lambda _, values: list(values))
    telemetry = Counting()
    updater = SupervisedUpdater(
        cast("TrainingEngine", Engine()),
        SFTConfig(tokens_per_micro_batch=16),
        Ranks(rank, 2, torch.device("cpu")),
        telemetry,
        num_steps=10,
        packing=False,
    )

    def loss_of(rows: list[int]) -> Any:
        return torch.tensor(float(len(rows)))

    updater.update(3, [16, 16, 8, 8], loss_of, num_tokens=42)
    assert telemetry.counted == [("tokens", 42.0, {"kind": "trained"})]
