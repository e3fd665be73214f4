"""Run under torchrun: updates of a toy model at every ZeRO stage; rank 0 prints them as JSON."""

import json
import sys
import tempfile
from pathlib import Path

import torch
from deepspeed.utils import groups
from torch import nn

from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.config.model import Device
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.manifest import entries, files_of, write_manifest
from rlhf_trainer.engine.saving import flaw_seen_together
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.errors import PhaseError

OPTIMIZER = OptimizerConfig(
    weight_decay=0.1, maximum_gradient_norm=0.5, adam_epsilon=1e-8, warmup_steps=0
)
LEARNING_RATE, FACTORS = 0.05, (1.0, 0.5, 1.0)
LENGTHS = (5, 1, 4, 2, 3, 1, 6)
OVERRIDES = {"zero_optimization": {"reduce_bucket_size": 100}}
"""Fewer elements than the toy has; beside it, the stage stays what it is."""


class Toy(nn.Module):
    """An embedding and two layers, so that there are matrices, vectors and several modules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(16, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.hidden(self.embedding(tokens)))).squeeze(-1)


def rows(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randint(0, 16, (length,), generator=generator) for length in LENGTHS]


def loss_sum(outputs: torch.Tensor) -> torch.Tensor:
    return ((outputs - 1) ** 2).sum()


def run_stage(stage: int, ranks: process_group.Ranks) -> dict[str, object]:
    model = Toy()
    engine = TrainingEngine(
        model,
        [ParameterGroup(list(model.parameters()), LEARNING_RATE)],
        OPTIMIZER,
        DeepSpeedConfig(zero_stage=stage, overrides=OVERRIDES),
        ranks,
    )
    engine.train()
    norms = []
    for step, factor in enumerate(FACTORS):
        batch = rows(step)
        plan = plan_step(LENGTHS, budget_tokens=6, rank=ranks.rank, world_size=ranks.world_size)

        def loss_of(indices: list[int], batch: list[torch.Tensor] = batch) -> torch.Tensor:
            tokens = [batch[index] for index in indices] or [torch.zeros(1, dtype=torch.long)]
            weight = 1.0 if indices else 0.0
            return weight * loss_sum(engine(torch.cat(tokens))) / sum(LENGTHS)

        norms.append(engine.update(plan, loss_of, learning_rate_factor=factor))
    with engine.gathered() as module:
        weights = {name: value.tolist() for name, value in module.state_dict().items()}
    return {"norms": norms, "weights": weights}


class Half(nn.Module):
    """Two numbers, of which only one is used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Parameter(torch.ones(1, 1))
        self.unused = nn.Parameter(torch.ones(1, 1))

    def forward(self) -> torch.Tensor:
        return self.used.sum()


def run_half(ranks: process_group.Ranks) -> float:
    """Return what an update makes of a parameter that gets no gradient."""
    model = Half()
    groups = [ParameterGroup(list(model.parameters()), LEARNING_RATE)]
    engine = TrainingEngine(model, groups, OPTIMIZER, DeepSpeedConfig(), ranks)
    engine.update([None], lambda _: engine() / ranks.world_size, learning_rate_factor=1.0)
    return model.unused.item()


def fail() -> None:
    message = "no room"
    raise OSError(message)


def said_on_failure(ranks: process_group.Ranks) -> list[str]:
    """Return what each rank raises where the main rank's work fails."""
    try:
        ranks.from_main(fail)
    except (OSError, PhaseError) as error:
        return ranks.gather(f"{type(error).__name__}: {error}")
    return []


def patience_seconds() -> list[float]:
    """Return how long ranks wait in the group that all are in, and in DeepSpeed's own."""
    everybody = torch.distributed.group.WORLD
    found = []
    for group in (everybody, groups._get_data_parallel_group()):
        backend = group._get_backend(torch.device("cpu"))
        found.append(backend.options._timeout.total_seconds())
    return found


def flaws(ranks: process_group.Ranks) -> list[str | None]:
    """Return what each rank says of a folder in which the share of the last one is damaged."""
    folder = Path(ranks.from_main(tempfile.mkdtemp))
    names = [f"part-{rank}.pt" for rank in range(ranks.world_size)]
    if ranks.is_main:
        for name in names:
            (folder / name).write_bytes(b"as it was")
        write_manifest(folder, entries(folder, files_of(folder)))
        (folder / names[-1]).write_bytes(b"otherwise")
    ranks.barrier()
    return ranks.gather(flaw_seen_together(folder, ranks, lambda: None))


def main() -> None:
    ranks = process_group.start(Device.CPU)
    results = {stage: run_stage(stage, ranks) for stage in (0, 2, 3)}
    shared = {
        "sums": ranks.sums([1.0, float(ranks.rank)]),
        "any": [ranks.any(ranks.rank == 0), ranks.any(flag=False)],
        "from_main": ranks.gather(ranks.from_main(lambda: f"by rank {ranks.rank}")),
        "failure": said_on_failure(ranks),
        "flaws": flaws(ranks),
        "patience_seconds": patience_seconds(),
        "gathered": ranks.gather(f"rank {ranks.rank}"),
        "unused": run_half(ranks),
    }
    if ranks.is_main:
        print("RESULT", json.dumps({"stages": results, "shared": shared}))  # noqa: T201
    process_group.stop()


if __name__ == "__main__":
    sys.exit(main())
