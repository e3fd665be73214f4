"""Run under torchrun, by two ranks: one of them fails in the midst of an update under ZeRO 3."""

import sys

import torch
from engine_cases import OPTIMIZER, Toy, loss_sum

from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.config.model import Device
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine

SHARDED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""So small a model would be held whole."""


def main() -> None:
    ranks = process_group.start(Device.CPU)
    model = Toy()
    groups = [ParameterGroup(list(model.parameters()), 0.05)]
    sharding = DeepSpeedConfig(zero_stage=3, overrides=SHARDED)
    engine = TrainingEngine(model, groups, OPTIMIZER, sharding, ranks)

    def loss_of(index: int) -> torch.Tensor:
        if ranks.rank == 1 and index == 1:
            message = "no memory left on rank 1"
            raise MemoryError(message)
        loss: torch.Tensor = loss_sum(engine(torch.zeros(3, dtype=torch.long)))
        return loss

    engine.update([0, 1, 2], loss_of, learning_rate_factor=1.0)


if __name__ == "__main__":
    sys.exit(main())
