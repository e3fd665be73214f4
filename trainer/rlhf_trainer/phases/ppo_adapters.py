"""PPO with LoRA: all roles on one copy of the base, trained by one engine.

The reference is the SFT model's adapter, frozen; the policy's starts as a copy of it, and the
critic's as a copy of the reward model's. A reward model with a base of its own keeps it, and its
critic an engine.
"""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import add_adapter_model
from rlhf_trainer.engine.training_engine import ParameterGroup
from rlhf_trainer.models.adapters import Role, add_adapter, copy_adapter, has_adapter
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.role_model import RoleModel, answer
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.ppo_networks import Networks, critic_learning_rate
from rlhf_trainer.phases.scoring import PACKING, scorer_on
from rlhf_trainer.phases.shared_base import SharedBase, load_shared_base
from rlhf_trainer.rollout.sampler import TransformersSampler


class AdapterNetworks(Networks):
    """Policy, reference, critic and reward model as adapters of one model."""

    def __init__(self, context: PhaseContext, ranks: Ranks, eos_token: int) -> None:
        super().__init__(context, ranks, eos_token)
        base = load_shared_base(context, ranks.device)
        self.packing = packs(base.lm, context.config.ppo.packing, PACKING)
        has_own_critic = self._add_trained_adapters(base)
        self.model = RoleModel(
            base.lm,
            temperature=context.config.ppo.temperature,
            value_head=not has_own_critic,
            score_weight=base.score_weight,
        )
        self.model.eval().train_roles()
        self._lend_weights(base.lm)
        self.policy_engine = self._engine(self.model, self._groups())
        self.critic_engine = self._separate_critic() if has_own_critic else None
        self.scorer = scorer_on(base, self.policy_engine, context, ranks, packing=self.packing)

    def _add_trained_adapters(self, base: SharedBase) -> bool:
        """Add the adapters of policy and critic; return whether the critic has its own base."""
        self._start_from_sft(base.lm, Role.POLICY)
        if self._context.config.ppo.critic is Critic.SHARED_TRUNK:
            return False
        if base.score_weight is not None:
            copy_adapter(base.lm, Role.REWARD, Role.CRITIC)
            return False
        if self._context.prepared().reward_model_reads_text:
            self._start_from_sft(base.lm, Role.CRITIC)
            return False
        return True

    def _start_from_sft(self, lm: PreTrainedModel, role: Role) -> None:
        config = self._context.config
        if has_adapter(lm, Role.REFERENCE):
            copy_adapter(lm, Role.REFERENCE, role)
        else:
            assert config.model.lora is not None  # noqa: S101 - or these networks are not used
            add_adapter(lm, config.model.lora, role, config.model, seed=config.seed)

    def _groups(self) -> list[ParameterGroup]:
        rate = self._context.config.ppo.learning_rate
        groups = [ParameterGroup(self.model.policy_parameters(), rate)]
        if critic := self.model.critic_parameters():
            groups.append(ParameterGroup(critic, critic_learning_rate(self._context)))
        return groups

    @property
    @override
    def reference_model(self) -> PreTrainedModel:
        return self.model.lm

    @property
    @override
    def _policy_lm(self) -> PreTrainedModel:
        return self.model.lm

    @override
    def policy_outputs(self, batch: SequenceBatch) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.policy_engine(
            Role.POLICY, batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT
        )
        return outputs

    @override
    def reference_log_probs(self, batch: SequenceBatch) -> Tensor:
        return answer(self.policy_engine, Role.REFERENCE, batch)

    @override
    @torch.no_grad()
    def values(self, batch: SequenceBatch) -> Tensor:
        if self.critic_engine is None:
            return answer(self.policy_engine, Role.CRITIC, batch)
        return self.valuing_outputs(batch)[0]

    @override
    def reference_sampler(self) -> TransformersSampler:
        lm = self._borrower.model if self._borrower is not None else self._policy_lm
        return self._sampler_of(lm, Role.REFERENCE)

    @override
    def add_policy(self, tokenizer: Path, folder: Path) -> None:
        with self.policy_engine.gathered():
            if self._ranks.is_main:
                add_adapter_model(self.model.lm, Role.POLICY, tokenizer, folder)
