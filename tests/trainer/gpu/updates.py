"""Run under torchrun: SFT losses of a toy model in many configurations; prints them as JSON.

Arguments: folder of the model, device. The first configuration is what the others are held to.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_trainer.algorithms.losses import cross_entropy
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.config.model import Attention, Device, DType, LoRAConfig, ModelConfig
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.models.adapters import Role, add_adapter, train_adapter
from rlhf_trainer.models.batch import batched, response_mask
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.policy import Policy

STEPS, ROWS, PROMPT, BUDGET_TOKENS = 8, 16, 2, 256
OPTIMIZER = OptimizerConfig(warmup_steps=0, maximum_gradient_norm=1.0)
PLAIN: dict[str, Any] = {}
LORA: dict[str, Any] = {"lora": LoRAConfig(rank=8)}
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "float32-zero-0": (0, {"dtype": DType.FLOAT32}, PLAIN),
    "float32-zero-3": (3, {"dtype": DType.FLOAT32}, PLAIN),
    "zero-2": (2, PLAIN, PLAIN),
    "zero-3": (3, PLAIN, PLAIN),
    "zero-2-offload": (2, PLAIN, {"offload_optimizer": True}),
    "zero-3-offload": (3, PLAIN, {"offload_optimizer": True}),
    "zero-2-recomputation": (2, {"gradient_checkpointing": True}, PLAIN),
    "zero-3-recomputation": (3, {"gradient_checkpointing": True}, PLAIN),
    "zero-2-packed": (2, PLAIN, {"packing": True}),
    "zero-3-packed": (3, PLAIN, {"packing": True}),
    "float32-zero-0-lora": (0, {"dtype": DType.FLOAT32} | LORA, PLAIN),
    "zero-2-lora": (2, LORA, PLAIN),
    "zero-3-lora-recomputation": (3, {"gradient_checkpointing": True} | LORA, PLAIN),
}
FLASH = ("zero-2", "zero-3", "zero-2-recomputation", "zero-2-packed", "zero-2-lora")


def losses_of(
    folder: Path,
    ranks: process_group.Ranks,
    stage: int,
    held: dict[str, Any],
    others: dict[str, Any],
) -> tuple[list[float], list[float]]:
    """Return loss and gradient norm of each step."""
    model = ModelConfig(source=str(folder), **({"attention": Attention.SDPA} | held))
    lm = load_causal_lm(folder, model, ranks.device)
    rate = 1e-3
    if model.lora is not None:
        add_adapter(lm, model.lora, Role.POLICY, model, seed=0)
        train_adapter(lm, Role.POLICY)
        rate = 2e-3
    policy = Policy(lm, temperature=1.0)
    trained = [value for value in policy.parameters() if value.requires_grad]
    packing = others.get("packing", False)
    sharding = DeepSpeedConfig(
        zero_stage=stage, offload_optimizer=others.get("offload_optimizer", False)
    )
    engine = TrainingEngine(policy, [ParameterGroup(trained, rate)], OPTIMIZER, sharding, ranks)
    engine.train()
    return followed(engine, lm.config.vocab_size, ranks, packing=packing)


def followed(
    engine: TrainingEngine, vocabulary: int, ranks: process_group.Ranks, *, packing: bool
) -> tuple[list[float], list[float]]:
    losses, norms = [], []
    for step in range(STEPS):
        parts: list[torch.Tensor] = []
        rows = rows_of(step, vocabulary)
        num_tokens = sum(len(row) - PROMPT for row in rows)

        def loss_of(
            indices: list[int],
            rows: list[np.ndarray] = rows,
            num_tokens: int = num_tokens,
            parts: list[torch.Tensor] = parts,
        ) -> torch.Tensor:
            chosen = [rows[index] for index in indices]
            masks = [response_mask(PROMPT, len(row)) for row in chosen]
            batch = batched(chosen, masks, ranks.device, packing=packing)
            outputs = engine(batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT)
            loss = cross_entropy(outputs[0], num_tokens=num_tokens)
            parts.append(loss.detach())
            return loss

        plan = plan_step(
            [len(row) for row in rows],
            budget_tokens=BUDGET_TOKENS,
            rank=0,
            world_size=1,
            packing=packing,
        )
        norms.append(engine.update(plan, loss_of, learning_rate_factor=1.0))
        losses.append(float(torch.stack(parts).sum()))
    return losses, norms


def rows_of(step: int, vocabulary: int) -> list[np.ndarray]:
    """Return sequences that can be learned: each goes up by its own small stride."""
    rng = np.random.default_rng(step)
    return [
        (rng.integers(vocabulary) + rng.integers(1, 4) * np.arange(rng.integers(8, 64)))
        % vocabulary
        for _ in range(ROWS)
    ]


def main() -> None:
    folder, device = Path(sys.argv[1]), Device(sys.argv[2])
    ranks = process_group.start(device)
    cases = dict(CASES)
    if len(sys.argv) > 3:
        flash = {"attention": Attention.FLASH_ATTENTION_2}
        cases |= {
            f"{name}-flash": (CASES[name][0], CASES[name][1] | flash, CASES[name][2])
            for name in FLASH
        }
    results = {}
    for name, case in cases.items():
        results[name] = losses_of(folder, ranks, *case)
        print("CASE", name, *(f"{loss:.4f}" for loss in results[name][0]), flush=True)  # noqa: T201 - for who waits
    print("RESULT", json.dumps(results))  # noqa: T201 - for the test
    process_group.stop()


if __name__ == "__main__":
    sys.exit(main())
