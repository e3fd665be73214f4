"""The reward model: Bradley-Terry on comparisons (InstructGPT, equation 1).

It starts from the SFT model with a new head, is read at the last token of prompt and response,
keeps the weights of its best validation accuracy, and is normalised so that demonstrations score 0
with unit spread.
"""

import gc
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from rlhf_trainer.algorithms.losses import bradley_terry
from rlhf_trainer.algorithms.statistics import calibration_error
from rlhf_trainer.data.adapter_folders import is_adapter
from rlhf_trainer.data.order import BatchStream
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.data.store import Pairs, PairTokens
from rlhf_trainer.engine.manifest import MANIFEST
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import add_adapter_model, copy_model, save_folder, save_model
from rlhf_trainer.engine.training_engine import ParameterGroup, TrainingEngine
from rlhf_trainer.errors import Facts, GateFailedError, InvalidError
from rlhf_trainer.models.adapters import Role, add_adapter, load_adapter, train_adapter
from rlhf_trainer.models.batch import batched, ended
from rlhf_trainer.models.loading import load_classifier, tell_special_tokens
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.scalar_head import ScalarHead, ScoreNormalisation
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.recovery import PhaseState, Recovery
from rlhf_trainer.phases.shared_base import base_model
from rlhf_trainer.phases.supervised import (
    SupervisedUpdater,
    UpdateStats,
    require_finite,
    total_steps,
)
from rlhf_trainer.rollout.scoring import Scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray


PACKING = "rewardModel.packing"

BEST = "best"
"""Folder of a checkpoint that holds the exported best weights."""


@dataclass(frozen=True)
class Validation:
    """How well the model orders held-out comparisons."""

    accuracy: float
    """Share of pairs whose chosen response scores higher; ties count half."""
    margin: float
    """Mean score difference, chosen minus rejected, in raw score units."""
    calibration_error: float
    """Expected calibration error of P(chosen) = sigmoid(margin)."""


class RewardModelState(PhaseState):
    """What the reward model's training has to know to go on."""

    stream: dict[str, int]
    best_step: int
    best: Validation
    stale: int = 0
    """Validations without a new best accuracy."""

    def after(self, stream: dict[str, int]) -> Self:
        """Return the state after one more update."""
        return self.model_copy(update={"step": self.step + 1, "stream": stream})


def run(context: PhaseContext, ranks: Ranks) -> PhaseReport:
    """Train the reward model, export its best weights, and hold it against its gate."""
    settings = context.config.reward_model
    prepared = context.prepared()
    state = _train(context, ranks, prepared)
    best_step, best = state.best_step, state.best
    gc.collect()  # DeepSpeed's engines are cyclic, and the model is loaded again

    normalisation = _normalise(context, ranks, prepared)
    metrics = {
        "validationAccuracy": best.accuracy,
        "validationMargin": best.margin / normalisation.std,
        "calibrationError": best.calibration_error,
        "scoreMean": normalisation.mean,
        "scoreStd": normalisation.std,
    }
    if best.accuracy < settings.minimum_accuracy:
        raise GateFailedError(
            f"validation accuracy {best.accuracy:.3f} is below rewardModel.minimumAccuracy="
            f"{settings.minimum_accuracy}: PPO would optimise noise; look at the comparisons' "
            "agreement, "
            "add comparisons, or train longer",
            reason="AccuracyTooLow",
            facts=Facts(step=best_step, metrics=metrics),
        )
    return PhaseReport(
        f"orders {best.accuracy:.1%} of {len(prepared.held_out_pairs())} held-out comparisons "
        "as people do "
        f"(best at step {best_step})",
        metrics,
        step=best_step,
        model_path=context.paths.model,
    )


def _train(context: PhaseContext, ranks: Ranks, prepared: PreparedData) -> RewardModelState:
    """Train and export the best weights; nothing of network and optimiser outlives this."""
    settings = context.config.reward_model
    network, packing = _network(context, ranks)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [ParameterGroup(trained, settings.learning_rate)]
    engine = TrainingEngine(network, groups, settings, context.config.deepspeed, ranks)
    training = _Training(context, ranks, engine, network, packing=packing)
    try:
        return training.run(prepared.pairs(), prepared.held_out_pairs())
    finally:
        engine.close()


def _network(context: PhaseContext, ranks: Ranks) -> tuple[ScalarHead, bool]:
    """Return the model that training starts from, and whether its sequences are packed.

    It is the SFT model or the one named, with a new head.
    """
    config, own = context.config, context.config.reward_model.model
    held = context.reward_model_config
    source = base_model(context) if own is None else context.source(own.source)
    if held.lora is None and own is None:
        source = str(context.sft_model())
    classifier = load_classifier(source, held, ranks.device, new_head=True)
    tell_special_tokens(classifier, context.prepared().special_tokens())
    network = ScalarHead(classifier, dropout=config.reward_model.dropout)
    packing = packs(classifier, config.reward_model.packing, PACKING)
    network.reset_head(torch.Generator().manual_seed(config.seed))
    if held.lora is not None:
        if own is None and is_adapter(context.sft_model()):
            dropout = held.lora.dropout
            load_adapter(classifier, context.sft_model(), Role.REWARD, dropout=dropout)
        else:
            add_adapter(classifier, held.lora, Role.REWARD, held, seed=config.seed)
        train_adapter(classifier, Role.REWARD)
        network.head.requires_grad_()
    return network, packing


class _Training:
    """The loop over comparisons, with validation and early stopping."""

    def __init__(
        self,
        context: PhaseContext,
        ranks: Ranks,
        engine: TrainingEngine,
        network: ScalarHead,
        *,
        packing: bool,
    ) -> None:
        self._context = context
        self._ranks = ranks
        self._engine = engine
        self._network = network
        self._packing = packing

    def run(self, train: Pairs, held_out: Pairs) -> "RewardModelState":
        """Train; return how it stands at the end. The best weights are exported."""
        settings, telemetry = self._context.config.reward_model, self._context.telemetry
        num_steps = total_steps(
            len(train), settings.batch_size, settings.epochs, settings.maximum_steps
        )
        updater = SupervisedUpdater(
            self._engine, settings, self._ranks, telemetry, num_steps, packing=self._packing
        )
        stream = BatchStream(len(train), settings.batch_size, seed=self._context.config.seed)
        telemetry.set("total_steps", num_steps)
        recovery = Recovery(self._context, self._ranks, {"reward-model": self._engine})
        state = recovery.resume(RewardModelState)
        if state is None:
            best = self._validate(held_out, 0)
            state = RewardModelState(step=0, stream=stream.state(), best_step=0, best=best)
            self._export()
            telemetry.finish_step(0)
        else:
            self._restore_best(state.step)
        stream.restore(state.stream)
        while state.step < num_steps and state.stale < settings.early_stopping.patience:
            with telemetry.stage("update"):
                pairs = [train[row] for row in stream.next_batch()]
                stats = self._update(updater, state.step, pairs)
            telemetry.set("loss", stats.loss, name="reward")
            state = state.after(stream.state())
            if state.step % settings.early_stopping.validate_every_steps == 0 or (
                state.step == num_steps
            ):
                state = self._compared(state, held_out)
            stopping = state.stale >= settings.early_stopping.patience
            event = "early stop: no new best accuracy" if stopping else ""
            telemetry.finish_step(state.step, event)
            if state.step < num_steps and not stopping:
                recovery.at_boundary(state, Facts(step=state.step), self._add_best)
        return state

    def _compared(self, state: "RewardModelState", held_out: Pairs) -> "RewardModelState":
        """Hold the weights against the best so far; export them if they are better."""
        with self._context.telemetry.stage("validation"):
            current = self._validate(held_out, state.step)
        if current.accuracy <= state.best.accuracy:
            return state.model_copy(update={"stale": state.stale + 1})
        self._export()
        return state.model_copy(update={"best_step": state.step, "best": current, "stale": 0})

    def _restore_best(self, step: int) -> None:
        if self._ranks.is_main:
            paths, beat = self._context.paths, self._context.telemetry.heartbeat
            copy_model(paths.checkpoint(step) / BEST, paths.model, beat)
        self._ranks.barrier()

    def _add_best(self, folder: Path) -> None:
        if self._ranks.is_main:
            shutil.copytree(self._context.paths.model, folder / BEST)

    def _update(
        self, updater: SupervisedUpdater, step: int, pairs: list[PairTokens]
    ) -> UpdateStats:
        self._engine.train()

        def loss_of(rows: list[int]) -> Tensor:
            scores = self._scores([pairs[row] for row in rows])
            return bradley_terry(scores[: len(rows)], scores[len(rows) :], num_pairs=len(pairs))

        lengths = [self._pair_length(pair) for pair in pairs]
        num_tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        return updater.update(step, lengths, loss_of, num_tokens=num_tokens)

    def _scores(self, pairs: list[PairTokens]) -> Tensor:
        """Return raw scores, all chosen first, then all rejected."""
        sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        masks = [np.zeros(len(sequence), np.bool_) for sequence in sequences]
        batch = batched(sequences, masks, self._ranks.device, packing=self._packing)
        scores: Tensor = self._engine(batch.tokens_BT, batch.last_B, batch.positions_BT)
        return scores[: len(sequences)]

    def _pair_length(self, pair: PairTokens) -> int:
        """Return the tokens that a pair costs: padded, both rows are as wide as the longer."""
        lengths = len(pair.chosen), len(pair.rejected)
        return sum(lengths) if self._packing else 2 * max(lengths)

    @torch.no_grad()
    def _validate(self, held_out: Pairs, step: int) -> Validation:
        self._engine.train(mode=False)
        settings = self._context.config.reward_model
        pairs = [held_out[row] for row in range(len(held_out))]
        plan = plan_step(
            [self._pair_length(pair) for pair in pairs],
            budget_tokens=settings.tokens_per_micro_batch,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            packing=self._packing,
        )
        margins: list[float] = []
        for rows in plan:
            scores = self._scores([pairs[row] for row in rows])
            margins += (scores[: len(rows)] - scores[len(rows) :]).tolist()
            self._context.telemetry.heartbeat()
        gathered = np.array([margin for part in self._ranks.gather(margins) for margin in part])
        require_finite("validation margin", float(gathered.mean()), step)
        validation = Validation(
            float((gathered > 0).mean() + 0.5 * (gathered == 0).mean()),
            float(gathered.mean()),
            calibration_error(gathered.tolist()),
        )
        self._context.telemetry.set("preference_accuracy", validation.accuracy)
        self._context.telemetry.set("preference_margin_score", validation.margin)
        return validation

    def _export(self) -> None:
        with self._engine.gathered():
            if self._ranks.is_main:
                _save(self._context, self._network)
        self._ranks.barrier()


def _save(context: PhaseContext, network: ScalarHead) -> None:
    tokenizer, folder = context.prepared().tokenizer, context.paths.model
    beat = context.telemetry.heartbeat
    if context.reward_model_config.lora is None:
        save_model(network.classifier, tokenizer, folder, beat)
        return
    add = partial(add_adapter_model, network.classifier, Role.REWARD, tokenizer, head=network.head)
    save_folder(folder, add, beat)


def _normalise(context: PhaseContext, ranks: Ranks, prepared: PreparedData) -> ScoreNormalisation:
    """Measure the best weights' raw scores and store the affine map with the exported model."""
    folder = context.paths.model
    held, beat = context.reward_model_config, context.telemetry.heartbeat
    classifier = load_classifier(folder, held, ranks.device, merging=False)
    scorer = Scorer.of(
        classifier,
        context.config.reward_model.tokens_per_micro_batch,
        ranks,
        beat,
        packing=packs(classifier, context.config.reward_model.packing, PACKING),
    )
    demonstrations, pairs = prepared.demonstrations(), prepared.pairs()
    eos_token = prepared.special_tokens().eos
    longest = context.config.sft.maximum_tokens
    endings = [
        ended(demonstrations[row].tokens, eos_token, maximum_tokens=longest)
        for row in range(len(demonstrations))
    ]
    mean = float(np.mean(scorer.raw(endings)))
    responses: list[NDArray[np.integer]] = []
    for row in range(len(pairs)):
        responses += [pairs[row].chosen, pairs[row].rejected]
    std = float(np.std(scorer.raw(responses)))
    if std == 0:
        raise InvalidError(
            "data.comparisons", "all responses", "get the same score", "add comparisons that differ"
        )
    normalisation = ScoreNormalisation(mean, std)
    if ranks.is_main:
        if is_adapter(folder):
            save_folder(folder, partial(_with_normalisation, folder, normalisation), beat)
        else:
            normalisation.store(classifier)
            save_model(classifier, prepared.tokenizer, folder, beat)
    ranks.barrier()
    return normalisation


def _with_normalisation(source: Path, normalisation: ScoreNormalisation, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    normalisation.write(folder)
