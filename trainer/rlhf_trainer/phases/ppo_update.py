"""The learning half of a PPO step: rewards, advantages, and clipped updates of policy and critic.

Legend: B = rows of the step, T = longest response, N = response tokens of a micro-batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlhf_trainer.algorithms.gae import (
    advantages_and_returns,
    explained_variance,
    token_rewards,
)
from rlhf_trainer.algorithms.kl import token_kl
from rlhf_trainer.algorithms.losses import policy_loss, value_loss
from rlhf_trainer.algorithms.masked import whiten
from rlhf_trainer.config.ppo import KLPlacement, PPOConfig
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.phases.ppo_networks import Networks
from rlhf_trainer.phases.supervised import require_finite
from rlhf_trainer.rollout.experience import Experience
from rlhf_trainer.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class Targets:
    """What an experience teaches: [B, T] float32, 0 outside the mask."""

    advantage_BT: Tensor
    """Whitened over the whole rollout."""
    return_BT: Tensor
    explained_variance: float


def learning_targets(experience: Experience, kl_coefficient: float, ppo: PPOConfig) -> Targets:
    """Return advantages and returns: InstructGPT equation 2, then GAE, then whitening."""
    mask_BT = experience.mask_BT
    penalty_BT = torch.zeros_like(experience.logp_BT)
    if ppo.kl.placement is KLPlacement.REWARD:
        kl_BT = token_kl(experience.logp_BT, experience.ref_logp_BT, ppo.kl.estimator)
        penalty_BT = kl_coefficient * kl_BT
    reward_BT = token_rewards(shaped_scores(experience, ppo), penalty_BT, mask_BT)
    if ppo.whiten_rewards:
        reward_BT = whiten(reward_BT, mask_BT, shift_mean=False)
    advantage_BT, return_BT = advantages_and_returns(
        reward_BT,
        experience.value_BT,
        mask_BT,
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
    )
    explained = explained_variance(experience.value_BT, return_BT, mask_BT)
    return Targets(whiten(advantage_BT, mask_BT), return_BT, explained)


def shaped_scores(experience: Experience, ppo: PPOConfig) -> Tensor:
    """Return scores after clipping, less the penalty of responses that did not end, [B]."""
    score_B = experience.score_B
    if ppo.score_clip is not None:
        score_B = score_B.clamp(-ppo.score_clip, ppo.score_clip)
    return score_B - ppo.missing_eos_penalty * (~experience.sampled.ended_B).float()


@dataclass
class UpdateSums:
    """Sums over the updates of one rollout, of this rank until they are reduced."""

    tokens: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    clipped_tokens: float = 0.0
    approx_kl_nats: float = 0.0
    updates: int = 0
    gradient_norm: float = 0.0


class Updater:
    """Takes the updates of one rollout after another."""

    def __init__(
        self, networks: Networks, ppo: PPOConfig, ranks: Ranks, telemetry: Telemetry, seed: int
    ) -> None:
        self._networks = networks
        self._ppo = ppo
        self._ranks = ranks
        self._telemetry = telemetry
        self._seed = seed

    def update(
        self,
        step: int,
        experience: Experience,
        targets: Targets,
        *,
        kl_coefficient: float,
        learning_rate_factor: float,
    ) -> None:
        """Learn from one rollout: `epochs` passes in reshuffled minibatches; report what happened.

        Raises:
            DivergedError: a loss or gradient is not finite.
        """
        self._kl_coefficient, self._factor = kl_coefficient, learning_rate_factor
        sums = UpdateSums()
        for epoch in range(self._ppo.epochs):
            epoch_sums = UpdateSums()
            rng = np.random.default_rng((self._seed, step, epoch))
            order = rng.permutation(len(experience.mask_BT))
            for rows in order.reshape(-1, self._ppo.minibatch_size):
                self._minibatch(step, experience, targets, rows.tolist(), epoch_sums)
            _add(sums, epoch_sums)
            if self._moved_too_far(epoch_sums):
                self._telemetry.note(
                    f"step {step + 1}: ppo.updateKl limit exceeded in epoch {epoch + 1} of "
                    f"{self._ppo.epochs}; the remaining epochs are left out"
                )
                break
        self._report(sums, targets, learning_rate_factor)

    def _moved_too_far(self, sums: UpdateSums) -> bool:
        limit = self._ppo.update_kl
        return limit is not None and sums.approx_kl_nats / sums.tokens > limit.limit_nats_per_token

    def _minibatch(
        self,
        step: int,
        experience: Experience,
        targets: Targets,
        rows: list[int],
        sums: UpdateSums,
    ) -> None:
        lengths = experience.sampled.lengths
        plan = plan_step(
            [lengths[row] for row in rows],
            budget_tokens=self._ppo.tokens_per_micro_batch,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            packing=self._ppo.packing,
        )
        minibatch = _Minibatch(
            experience,
            targets,
            int(experience.mask_BT[rows].sum()),
            self._ranks.device,
            self._ppo.packing,
        )
        micro_batches = [[rows[index] for index in part] for part in plan]
        local = _LocalSums()
        norm = self._take_step(
            self._networks.policy_engine,
            micro_batches,
            lambda part: self._policy_loss(minibatch, part, local),
        )
        critic_norm = 0.0
        if self._networks.critic_engine is not None:
            critic_norm = self._take_step(
                self._networks.critic_engine,
                micro_batches,
                lambda part: self._critic_loss(minibatch, part, local),
            )
        policy, value, clipped, approx_kl = self._ranks.sums(local.values())
        require_finite("policy loss", policy, step + 1)
        require_finite("value loss", value, step + 1)
        require_finite("gradient norm", norm, step + 1)
        require_finite("critic's gradient norm", critic_norm, step + 1)
        _add(
            sums,
            UpdateSums(minibatch.num_tokens, policy, value, clipped, approx_kl, 1, norm),
        )

    def _take_step(
        self,
        engine: TrainingEngine,
        micro_batches: list[list[int]],
        loss_of: Callable[[list[int]], Tensor],
    ) -> float:
        with recomputed_activations(engine.module):
            return engine.update(micro_batches, loss_of, learning_rate_factor=self._factor)

    def _policy_loss(self, minibatch: "_Minibatch", rows: list[int], local: "_LocalSums") -> Tensor:
        batch = minibatch.batch(rows)
        outputs = self._networks.policy_outputs(batch)
        clipped = policy_loss(
            outputs[0],
            minibatch.flat(minibatch.experience.logp_BT, rows),
            minibatch.flat(minibatch.targets.advantage_BT, rows),
            clip_range=self._ppo.clip_range,
            num_tokens=minibatch.num_tokens,
        )
        local.policy.append(clipped.loss.detach())
        local.clipped.append(clipped.clipped_tokens)
        local.approx_kl.append(clipped.approx_kl_sum_nats)
        self._telemetry.heartbeat()
        loss = clipped.loss
        if self._ppo.kl.placement is KLPlacement.LOSS:
            ref_logp_N = minibatch.flat(minibatch.experience.ref_logp_BT, rows)
            kl_N = token_kl(outputs[0], ref_logp_N, self._ppo.kl.estimator)
            loss = loss + self._kl_coefficient * kl_N.sum() / minibatch.num_tokens
        if self._networks.critic_engine is None:
            loss = loss + self._value_loss(minibatch, rows, outputs[1], local)
        return loss

    def _critic_loss(self, minibatch: "_Minibatch", rows: list[int], local: "_LocalSums") -> Tensor:
        assert self._networks.critic_engine is not None  # noqa: S101 - only called with a critic
        batch = minibatch.batch(rows)
        values_N = self._networks.critic_engine(
            batch.tokens_BT, batch.predict_N, batch.positions_BT
        )
        self._telemetry.heartbeat()
        return self._value_loss(minibatch, rows, values_N, local)

    def _value_loss(
        self, minibatch: "_Minibatch", rows: list[int], values_N: Tensor, local: "_LocalSums"
    ) -> Tensor:
        loss = value_loss(
            values_N,
            minibatch.flat(minibatch.experience.value_BT, rows),
            minibatch.flat(minibatch.targets.return_BT, rows),
            clip_range=self._ppo.value_clip_range,
            num_tokens=minibatch.num_tokens,
        )
        local.value.append(loss.detach())
        return self._ppo.value_coefficient * loss

    def _report(self, sums: UpdateSums, targets: Targets, factor: float) -> None:
        telemetry = self._telemetry
        telemetry.set("loss", sums.policy_loss / sums.updates, name="policy")
        telemetry.set("loss", sums.value_loss / sums.updates, name="value")
        telemetry.set("clip_fraction", sums.clipped_tokens / sums.tokens)
        telemetry.set("policy_kl_nats_per_token", sums.approx_kl_nats / sums.tokens)
        telemetry.set("gradient_norm", sums.gradient_norm / sums.updates)
        telemetry.set("value_explained_variance", targets.explained_variance)
        telemetry.set("learning_rate", factor * self._ppo.learning_rate)
        telemetry.increment("tokens", sums.tokens, kind="trained")


@dataclass(frozen=True)
class _Minibatch:
    experience: Experience
    targets: Targets
    num_tokens: int
    device: torch.device
    packing: bool

    def batch(self, rows: Sequence[int]) -> SequenceBatch:
        """Return some rows as a batch whose targets are their response tokens."""
        return self.experience.sampled.batch(rows, self.device, packing=self.packing)

    def flat(self, values_BT: Tensor, rows: Sequence[int]) -> Tensor:
        """Return values at the response tokens of some rows, [N], in the order of their batch."""
        picked = list(rows)
        return values_BT[picked][self.experience.mask_BT[picked]].to(self.device)


class _LocalSums:
    """What this rank's micro-batches add up to: tensors, so that nothing waits for a device."""

    def __init__(self) -> None:
        self.policy: list[Tensor] = []
        self.value: list[Tensor] = []
        self.clipped: list[Tensor] = []
        self.approx_kl: list[Tensor] = []

    def values(self) -> list[float]:
        return [
            float(torch.stack(part).sum())
            for part in (self.policy, self.value, self.clipped, self.approx_kl)
        ]


def _add(total: UpdateSums, part: UpdateSums) -> None:
    for name, value in vars(part).items():
        setattr(total, name, getattr(total, name) + value)
