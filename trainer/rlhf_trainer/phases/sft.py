"""Supervised fine-tuning on response tokens of demonstrations (InstructGPT, section 3.5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rlhf_trainer.algorithms.losses import cross_entropy
from rlhf_trainer.data.order import BatchStream
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.data.store import Demonstrations, DemonstrationTokens
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import add_adapter_model, save_folder, save_model
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.errors import Facts
from rlhf_trainer.models.adapters import Role, add_adapter, train_adapter
from rlhf_trainer.models.batch import batched
from rlhf_trainer.models.loading import load_causal_lm, tell_special_tokens
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.recovery import PhaseState, Recovery
from rlhf_trainer.phases.supervised import (
    SupervisedUpdater,
    UpdateStats,
    require_finite,
    total_steps,
)

TEMPERATURE = 1.0
"""Demonstrations are learned at temperature 1, whatever PPO samples with."""


class SFTState(PhaseState):
    """What SFT has to know to go on. Losses in nats per response token."""

    stream: dict[str, int]
    loss: float | None = None
    validation_loss: float
    initial_validation_loss: float


def run(context: PhaseContext, ranks: Ranks) -> PhaseReport:
    """Train the SFT model and export it."""
    config, sft = context.config, context.config.sft
    prepared = context.prepared()
    train = prepared.demonstrations()
    lm = load_causal_lm(context.source(config.model.source), config.model, ranks.device)
    tell_special_tokens(lm, prepared.special_tokens())
    packing = packs(lm, sft.packing, "sft.packing")
    lora = config.model.lora
    if lora is not None:
        add_adapter(lm, lora, Role.POLICY, config.model, seed=config.seed)
        train_adapter(lm, Role.POLICY)
    policy = Policy(lm, temperature=TEMPERATURE)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [ParameterGroup(trained, sft.learning_rate)]
    engine = TrainingEngine(policy, groups, sft, config.deepspeed, ranks)
    num_steps = total_steps(len(train), sft.batch_size, sft.epochs, sft.maximum_steps)
    context.telemetry.set("total_steps", num_steps)
    recovery = Recovery(context, ranks, {"policy": engine})

    state = _train(context, _Trained(engine, ranks, packing), recovery, train, num_steps)
    assert state.loss is not None  # noqa: S101 - a phase has at least one step

    _export(engine, policy, context, ranks)
    return PhaseReport(
        f"learned {len(train)} demonstrations in {num_steps} steps: validation loss "
        f"{state.initial_validation_loss:.3f} -> {state.validation_loss:.3f} nats per token",
        {
            "validationLossNatsPerToken": state.validation_loss,
            "initialValidationLossNatsPerToken": state.initial_validation_loss,
            "lossNatsPerToken": state.loss,
        },
        step=num_steps,
        model_path=context.paths.model,
    )


@dataclass(frozen=True)
class _Trained:
    """The engine, and how its sequences are laid out."""

    engine: TrainingEngine
    ranks: Ranks
    packing: bool

    def log_probs(self, items: list[DemonstrationTokens]) -> Tensor:
        """Return log-probabilities of response tokens, [N] in nats."""
        batch = batched(
            [item.tokens for item in items],
            [item.response_mask for item in items],
            self.ranks.device,
            packing=self.packing,
        )
        logp_N: Tensor = self.engine(
            batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT
        )[0]
        return logp_N


def _train(
    context: PhaseContext,
    trained: _Trained,
    recovery: Recovery,
    train: Demonstrations,
    num_steps: int,
) -> SFTState:
    """Take all updates that are left; return how it stands after the last one."""
    sft, telemetry = context.config.sft, context.telemetry
    held_out = context.prepared().held_out_demonstrations()
    updater = SupervisedUpdater(
        trained.engine, sft, trained.ranks, telemetry, num_steps, packing=trained.packing
    )
    stream = BatchStream(len(train), sft.batch_size, seed=context.config.seed)
    state = recovery.resume(SFTState)
    if state is None:
        initial = _validation_loss(trained, held_out, context, 0)
        state = SFTState(
            step=0,
            stream=stream.state(),
            validation_loss=initial,
            initial_validation_loss=initial,
        )
        telemetry.finish_step(0)
    stream.restore(state.stream)
    while state.step < num_steps:
        trained.engine.train()
        rows = stream.next_batch().tolist()
        with telemetry.stage("update"):
            stats = _update(updater, state.step, train, rows, trained.log_probs)
        telemetry.set("loss", stats.loss, name="sft")
        step, validation = state.step + 1, state.validation_loss
        if step % sft.validate_every_steps == 0 or step == num_steps:
            with telemetry.stage("validation"):
                validation = _validation_loss(trained, held_out, context, step)
        telemetry.finish_step(step)
        state = SFTState(
            step=step,
            stream=stream.state(),
            loss=stats.loss,
            validation_loss=validation,
            initial_validation_loss=state.initial_validation_loss,
        )
        if step < num_steps:
            recovery.at_boundary(state, Facts(step=step))
    return state


def _update(
    updater: SupervisedUpdater,
    step: int,
    demonstrations: Demonstrations,
    rows: Sequence[int],
    forward: Callable[[list[DemonstrationTokens]], Tensor],
) -> UpdateStats:
    batch = [demonstrations[row] for row in rows]
    num_tokens = sum(int(item.response_mask[1:].sum()) for item in batch)

    def loss_of(indices: list[int]) -> Tensor:
        logp_N = forward([batch[index] for index in indices])
        return cross_entropy(logp_N, num_tokens=num_tokens)

    lengths = [len(item.tokens) for item in batch]
    return updater.update(step, lengths, loss_of, num_tokens=sum(lengths))


@torch.no_grad()
def _validation_loss(
    trained: _Trained,
    held_out: Demonstrations,
    context: PhaseContext,
    step: int,
) -> float:
    """Return the loss on held-out demonstrations, in nats per response token."""
    trained.engine.train(mode=False)
    ranks = trained.ranks
    items = [held_out[row] for row in range(len(held_out))]
    plan = plan_step(
        [len(item.tokens) for item in items],
        budget_tokens=context.config.sft.tokens_per_micro_batch,
        rank=ranks.rank,
        world_size=ranks.world_size,
        packing=trained.packing,
    )
    total = 0.0
    for rows in plan:
        total -= float(trained.log_probs([items[row] for row in rows]).sum())
        context.telemetry.heartbeat()
    num_tokens = sum(int(item.response_mask[1:].sum()) for item in items)
    loss = require_finite("validation loss", ranks.sums([total])[0] / num_tokens, step)
    context.telemetry.set("loss", loss, name="validation")
    return loss


def _export(engine: TrainingEngine, policy: Policy, context: PhaseContext, ranks: Ranks) -> None:
    with engine.gathered():
        if ranks.is_main:
            tokenizer, folder = context.prepared().tokenizer, context.paths.model
            beat = context.telemetry.heartbeat
            if context.config.model.lora is None:
                save_model(policy.lm, tokenizer, folder, beat)
            else:
                add = partial(add_adapter_model, policy.lm, Role.POLICY, tokenizer)
                save_folder(folder, add, beat)
    ranks.barrier()
