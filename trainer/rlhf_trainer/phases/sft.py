"""Supervised fine-tuning on response tokens of demonstrations (InstructGPT, section 3.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_trainer.algorithms.losses import cross_entropy
from rlhf_trainer.data.order import BatchStream
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.data.store import Demonstrations, DemonstrationTokens
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import save_model
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.errors import Facts
from rlhf_trainer.models.batch import collate
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.supervised import (
    SupervisedUpdater,
    UpdateStats,
    require_finite,
    total_steps,
)

TEMPERATURE = 1.0
"""Demonstrations are learned at temperature 1, whatever PPO samples with."""


def run(context: PhaseContext, ranks: Ranks) -> PhaseReport:
    """Train the SFT model and export it."""
    config, sft = context.config, context.config.sft
    prepared = context.prepared()
    train, held_out = prepared.demonstrations(), prepared.held_out_demonstrations()
    lm = load_causal_lm(context.source(config.model.source), config.model, ranks.device)
    policy = Policy(lm, temperature=TEMPERATURE)
    groups = [ParameterGroup(list(policy.parameters()), sft.learning_rate)]
    engine = TrainingEngine(policy, groups, sft, config.deepspeed, ranks)
    num_steps = total_steps(len(train), sft.batch_size, sft.epochs, sft.maximum_steps)
    updater = SupervisedUpdater(engine, sft, ranks, context.telemetry, num_steps)
    stream = BatchStream(len(train), sft.batch_size, seed=config.seed)

    context.telemetry.set("total_steps", num_steps)
    validation = _validation_loss(engine, held_out, context, ranks, 0)
    initial_validation = validation
    context.telemetry.finish_step(0)
    for step in range(num_steps):
        engine.train()
        with context.telemetry.stage("update"):
            stats = _update(updater, step, train, stream.next_batch().tolist(), engine, ranks)
        context.telemetry.set("loss", stats.loss, name="sft")
        if (step + 1) % sft.validate_every_steps == 0 or step + 1 == num_steps:
            with context.telemetry.stage("validation"):
                validation = _validation_loss(engine, held_out, context, ranks, step + 1)
        context.telemetry.finish_step(step + 1)
        if step + 1 < num_steps:
            preempted = ranks.any(context.preemption.requested)
            context.stop_if_preempted(any_rank=preempted, facts=Facts(step=step + 1))

    _export(engine, policy, context, ranks)
    return PhaseReport(
        f"learned {len(train)} demonstrations in {num_steps} steps: validation loss "
        f"{initial_validation:.3f} -> {validation:.3f} nats per token",
        {
            "validationLossNatsPerToken": validation,
            "initialValidationLossNatsPerToken": initial_validation,
            "lossNatsPerToken": stats.loss,
        },
        step=num_steps,
        model_path=context.paths.model,
    )


def _update(
    updater: SupervisedUpdater,
    step: int,
    demonstrations: Demonstrations,
    rows: Sequence[int],
    engine: TrainingEngine,
    ranks: Ranks,
) -> UpdateStats:
    batch = [demonstrations[row] for row in rows]
    num_tokens = sum(int(item.response_mask[1:].sum()) for item in batch)

    def loss_of(indices: list[int]) -> Tensor:
        logp_N = _forward(engine, [batch[index] for index in indices], ranks)
        return cross_entropy(logp_N, num_tokens=num_tokens)

    return updater.update(step, [len(item.tokens) for item in batch], loss_of)


def _forward(engine: TrainingEngine, items: list[DemonstrationTokens], ranks: Ranks) -> Tensor:
    batch = collate(
        [item.tokens for item in items], [item.response_mask for item in items], ranks.device
    )
    logp_N: Tensor = engine(batch.tokens_BT, batch.predict_N, batch.target_N)[0]
    return logp_N


@torch.no_grad()
def _validation_loss(
    engine: TrainingEngine,
    held_out: Demonstrations,
    context: PhaseContext,
    ranks: Ranks,
    step: int,
) -> float:
    """Return the loss on held-out demonstrations, in nats per response token."""
    engine.train(mode=False)
    items = [held_out[row] for row in range(len(held_out))]
    plan = plan_step(
        [len(item.tokens) for item in items],
        budget_tokens=context.config.sft.tokens_per_micro_batch,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    total = 0.0
    for rows in plan:
        total -= float(_forward(engine, [items[row] for row in rows], ranks).sum())
        context.telemetry.heartbeat()
    num_tokens = sum(int(item.response_mask[1:].sum()) for item in items)
    loss = require_finite("validation loss", ranks.sums([total])[0] / num_tokens, step)
    context.telemetry.set("loss", loss, name="validation")
    return loss


def _export(engine: TrainingEngine, policy: Policy, context: PhaseContext, ranks: Ranks) -> None:
    with engine.gathered():
        if ranks.is_main:
            tokenizer = context.prepared().tokenizer
            save_model(policy.lm, tokenizer, context.paths.model)
    ranks.barrier()
