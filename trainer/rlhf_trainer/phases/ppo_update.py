"""The learning half of a PPO step: clipped updates of policy and critic.

Legend: N = response tokens of a micro-batch.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from rlhf_trainer.algorithms.kl import token_kl
from rlhf_trainer.algorithms.losses import policy_loss, value_loss
from rlhf_trainer.config.ppo import KLPlacement, PPOConfig
from rlhf_trainer.data.step_plan import plan_step
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.phases.first_pass import FirstPass
from rlhf_trainer.phases.ppo_minibatch import LocalSums, Minibatch, UpdateSums
from rlhf_trainer.phases.ppo_networks import Networks
from rlhf_trainer.phases.ppo_targets import Targets
from rlhf_trainer.phases.supervised import require_finite
from rlhf_trainer.rollout.experience import Experience
from rlhf_trainer.telemetry.telemetry import Telemetry


class Updater:
    """Takes the updates of one rollout after another."""

    def __init__(
        self,
        networks: Networks,
        first_pass: FirstPass,
        ppo: PPOConfig,
        ranks: Ranks,
        telemetry: Telemetry,
        seed: int,
    ) -> None:
        self._networks = networks
        self._first_pass = first_pass
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
        sums, latest = UpdateSums(), UpdateSums()
        for epoch in range(self._ppo.epochs):
            rng = np.random.default_rng((self._seed, step, epoch))
            order = rng.permutation(len(experience.mask_BT))
            for rows in order.reshape(-1, self._ppo.minibatch_size):
                # In their own order, rows that all are learned at once fall into the micro-batches
                # in which they were measured.
                latest = self._learn(step, experience, targets, sorted(rows.tolist()))
                sums.add(latest)
                self._first_pass.forget()
            if epoch + 1 < self._ppo.epochs and self._moved_too_far(latest):
                self._telemetry.note(
                    f"step {step + 1}: ppo.updateKl limit exceeded in epoch {epoch + 1} of "
                    f"{self._ppo.epochs}; the remaining epochs are left out"
                )
                break
        self._report(sums, targets, learning_rate_factor)

    def _moved_too_far(self, latest: UpdateSums) -> bool:
        """Return whether the epoch's last update began with a policy beyond the limit."""
        limit = self._ppo.update_kl
        if limit is None:
            return False
        return latest.approx_kl_nats / latest.tokens > limit.limit_nats_per_token

    def _learn(
        self, step: int, experience: Experience, targets: Targets, rows: list[int]
    ) -> UpdateSums:
        """Take one update; return what it adds up to, measured before its own step."""
        lengths = experience.sampled.lengths
        plan = plan_step(
            [lengths[row] for row in rows],
            budget_tokens=self._ppo.tokens_per_micro_batch,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            packing=self._networks.packing,
        )
        minibatch = Minibatch(
            experience,
            targets,
            int(experience.mask_BT[rows].sum()),
            self._ranks.device,
            self._networks.packing,
        )
        micro_batches = [[rows[index] for index in part] for part in plan]
        local = LocalSums()
        critic_norm = 0.0
        if self._networks.critic_engine is not None:  # first: a pass of its may be held in memory
            critic_norm = self._take_step(
                self._networks.critic_engine,
                micro_batches,
                lambda part: self._critic_loss(minibatch, part, local),
            )
        norm = self._take_step(
            self._networks.policy_engine,
            micro_batches,
            lambda part: self._policy_loss(minibatch, part, local),
        )
        policy, value, clipped, approx_kl = self._ranks.sums(local.values())
        require_finite("policy loss", policy, step + 1)
        require_finite("value loss", value, step + 1)
        require_finite("gradient norm", norm, step + 1)
        require_finite("critic's gradient norm", critic_norm, step + 1)
        return UpdateSums(
            minibatch.num_tokens, policy, value, clipped, approx_kl, 1, norm, critic_norm
        )

    def _take_step(
        self,
        engine: TrainingEngine,
        micro_batches: list[list[int]],
        loss_of: Callable[[list[int]], Tensor],
    ) -> float:
        with recomputed_activations(engine.module):
            return engine.update(micro_batches, loss_of, learning_rate_factor=self._factor)

    def _policy_loss(self, minibatch: Minibatch, rows: list[int], local: LocalSums) -> Tensor:
        batch = minibatch.batch(rows)
        has_values = self._networks.critic_engine is None
        answer = self._first_pass.outputs if has_values else self._networks.policy_outputs
        outputs = answer(batch)
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
        if has_values:
            loss = loss + self._value_loss(minibatch, rows, outputs[1], local)
        return loss

    def _critic_loss(self, minibatch: Minibatch, rows: list[int], local: LocalSums) -> Tensor:
        values_N = self._first_pass.outputs(minibatch.batch(rows))[-1]
        self._telemetry.heartbeat()
        return self._value_loss(minibatch, rows, values_N, local)

    def _value_loss(
        self, minibatch: Minibatch, rows: list[int], values_N: Tensor, local: LocalSums
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
        if self._networks.critic_engine is not None:
            telemetry.set("critic_gradient_norm", sums.critic_gradient_norm / sums.updates)
        telemetry.set("value_explained_variance", targets.explained_variance)
        telemetry.set("learning_rate", factor * self._ppo.learning_rate)
        telemetry.increment("tokens", sums.tokens, kind="trained")
