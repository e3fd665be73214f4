"""PPO with full fine-tuning: a model for each role, as InstructGPT."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import add_model
from rlhf_trainer.engine.training_engine import ParameterGroup
from rlhf_trainer.models.adapters import Role
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import load_causal_lm, tell_special_tokens
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.ppo_networks import Networks, critic_learning_rate
from rlhf_trainer.phases.scoring import PACKING, load_scorer
from rlhf_trainer.rollout.sampler import TransformersSampler


class FullNetworks(Networks):
    """Trained policy and critic, frozen reference and reward model."""

    def __init__(self, context: PhaseContext, ranks: Ranks, eos_token: int) -> None:
        super().__init__(context, ranks, eos_token)
        shared = context.config.ppo.critic is Critic.SHARED_TRUNK
        self.reference = self._policy().requires_grad_(requires_grad=False)
        self.packing = packs(self.reference.lm, context.config.ppo.packing, PACKING)
        self.policy = self._policy(value_head=shared)
        tell_special_tokens(self.policy.lm, context.prepared().special_tokens())
        self._lend_weights(self.policy.lm)
        self.policy_engine = self._engine(self.policy, self._groups())
        self.critic_engine = None if shared else self._separate_critic()
        self.scorer = load_scorer(context, ranks)

    def _policy(self, *, value_head: bool = False) -> Policy:
        config = self._context.config
        lm = load_causal_lm(self._context.sft_model(), config.model, self._ranks.device)
        return Policy(lm, temperature=config.ppo.temperature, value_head=value_head)

    def _groups(self) -> list[ParameterGroup]:
        rate = self._context.config.ppo.learning_rate
        groups = [ParameterGroup(list(self.policy.lm.parameters()), rate)]
        if self.policy.value_head is not None:
            head = list(self.policy.value_head.parameters())
            groups.append(ParameterGroup(head, critic_learning_rate(self._context)))
        return groups

    @property
    @override
    def reference_model(self) -> PreTrainedModel:
        return self.reference.lm

    @property
    @override
    def _policy_lm(self) -> PreTrainedModel:
        return self.policy.lm

    @override
    def policy_outputs(self, batch: SequenceBatch) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.policy_engine(
            batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT
        )
        return outputs

    @override
    def reference_log_probs(self, batch: SequenceBatch) -> Tensor:
        return log_probs(self.reference, batch)

    @override
    @torch.no_grad()
    def values(self, batch: SequenceBatch) -> Tensor:
        if self.critic_engine is None:
            values: Tensor = self.policy_engine(
                batch.tokens_BT, batch.predict_N, None, batch.positions_BT
            )[0]
            return values
        return self.valuing_outputs(batch)[0]

    @override
    def reference_sampler(self) -> TransformersSampler:
        return self._sampler_of(self.reference.lm, Role.REFERENCE)

    @override
    def add_policy(self, tokenizer: Path, folder: Path) -> None:
        with self.policy_engine.gathered():
            if self._ranks.is_main:
                add_model(self.policy.lm, tokenizer, folder)
