"""The networks of PPO: trained policy and critic, frozen reference and reward model."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import (
    SHARDED_PARAMETERS,
    ParameterGroup,
    TrainingEngine,
)
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import load_causal_lm, load_classifier, tell_special_tokens
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.models.scalar_head import ScalarHead
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.scoring import load_scorer
from rlhf_trainer.rollout.sampler import TransformersSampler

DECODE_BUDGET_FACTOR = 8
"""Decoding holds no activations for a backward pass, so its batches may be this much larger."""


class Networks:
    """Everything PPO runs forward or backward; in evaluation mode, so dropout is off."""

    def __init__(self, context: PhaseContext, ranks: Ranks, eos_token: int) -> None:
        config, ppo = context.config, context.config.ppo
        shared = ppo.critic is Critic.SHARED_TRUNK
        self._ranks = ranks
        self.reference = Policy(
            load_causal_lm(context.sft_model(), config.model, ranks.device),
            temperature=ppo.temperature,
        ).requires_grad_(requires_grad=False)
        lm = load_causal_lm(context.sft_model(), config.model, ranks.device)
        tell_special_tokens(lm, context.prepared().special_tokens())
        self.policy = Policy(lm, temperature=ppo.temperature, value_head=shared)
        sharded = config.deepspeed.zero_stage >= SHARDED_PARAMETERS
        self._rollout_lm = copy.deepcopy(lm) if sharded else lm
        self.policy_engine = TrainingEngine(
            self.policy, _policy_groups(self.policy, context), ppo, config.deepspeed, ranks
        )
        self.policy_engine.train(mode=False)
        self.critic_engine = None if shared else _critic_engine(context, ranks)
        self.scorer = load_scorer(context, ranks)
        self._sampler_settings = {
            "eos_token": eos_token,
            "maximum_tokens": ppo.maximum_response_tokens,
            "budget_tokens": DECODE_BUDGET_FACTOR * ppo.tokens_per_micro_batch,
        }
        self._heartbeat = context.telemetry.heartbeat

    def engines(self) -> dict[str, TrainingEngine]:
        """Return what is trained, by name."""
        engines = {"policy": self.policy_engine}
        if self.critic_engine is not None:
            engines["critic"] = self.critic_engine
        return engines

    @contextmanager
    def sampler(self) -> Iterator[TransformersSampler]:
        """Lend a sampler of the current policy.

        Under ZeRO 3 it decodes with a plain model that borrows the gathered weights: through the
        engine's hooks every token would gather every layer.
        """
        with self.policy_engine.gathered():
            if self._rollout_lm is not self.policy.lm:
                _borrow(self._rollout_lm, self.policy.lm)
            try:
                yield self.sampler_of(self._rollout_lm)
            finally:
                if self._rollout_lm is not self.policy.lm:
                    _give_back(self._rollout_lm)

    def sampler_of(self, lm: PreTrainedModel) -> TransformersSampler:
        """Return a sampler of any model, with the run's settings."""
        return TransformersSampler(
            lm,
            temperature=self.policy.temperature,
            heartbeat=self._heartbeat,
            **self._sampler_settings,
        )

    def reference_log_probs(self, batch: SequenceBatch) -> Tensor:
        """Return the reference's log-probabilities, [N] detached, in nats."""
        return log_probs(self.reference, batch)

    @torch.no_grad()
    def values(self, batch: SequenceBatch) -> Tensor:
        """Return the critic's values before each response token, [N] detached."""
        if self.critic_engine is None:
            outputs = self.policy_engine(batch.tokens_BT, batch.predict_N, batch.target_N)
            shared: Tensor = outputs[1]
            return shared
        values: Tensor = self.critic_engine(batch.tokens_BT, batch.predict_N)
        return values


def _policy_groups(policy: Policy, context: PhaseContext) -> list[ParameterGroup]:
    ppo = context.config.ppo
    groups = [ParameterGroup(list(policy.lm.parameters()), ppo.learning_rate)]
    if policy.value_head is not None:
        rate = ppo.critic_learning_rate or ppo.learning_rate
        groups.append(ParameterGroup(list(policy.value_head.parameters()), rate))
    return groups


def _critic_engine(context: PhaseContext, ranks: Ranks) -> TrainingEngine:
    config, ppo = context.config, context.config.ppo
    critic = _critic_start(context, ranks)
    rate = ppo.critic_learning_rate or ppo.learning_rate
    groups = [ParameterGroup(list(critic.parameters()), rate)]
    engine = TrainingEngine(critic, groups, ppo, config.deepspeed, ranks)
    engine.train(mode=False)
    return engine


def _critic_start(context: PhaseContext, ranks: Ranks) -> ScalarHead:
    """Return the critic: the reward model's trunk with a zero head (InstructGPT, appendix C.4).

    A reward model with a tokenizer of its own cannot read the policy's tokens; the critic then
    starts from the SFT model.
    """
    if context.prepared().reward_model_reads_text:
        source, held = context.sft_model(), context.config.model
    else:
        source, held = context.reward_model(), context.reward_model_config
    critic = ScalarHead(load_classifier(source, held, ranks.device, new_head=True))
    critic.reset_head(None)
    return critic


def _borrow(borrower: PreTrainedModel, owner: PreTrainedModel) -> None:
    for mine, theirs in zip(borrower.parameters(), owner.parameters(), strict=True):
        mine.data = theirs.data


def _give_back(borrower: PreTrainedModel) -> None:
    for parameter in borrower.parameters():
        parameter.data = parameter.data.new_empty(0)
