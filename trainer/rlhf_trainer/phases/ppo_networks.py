"""What PPO runs forward and backward, by role; how roles are held in memory is for others to say.

`ppo_full` has a model for each role, `ppo_adapters` one model with an adapter for each.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.contract.limits import DECODE_BUDGET_FACTOR
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import (
    SHARDED_PARAMETERS,
    ParameterGroup,
    TrainingEngine,
)
from rlhf_trainer.models.adapters import Role, add_adapter, train_adapter
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.borrowing import Borrower
from rlhf_trainer.models.loading import load_classifier
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.scalar_head import ScalarHead
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.scoring import PACKING
from rlhf_trainer.rollout.sampler import TransformersSampler
from rlhf_trainer.rollout.scoring import ResponseScorer


class Networks(ABC):
    """The roles of PPO; all are in evaluation mode, so dropout is off."""

    policy_engine: TrainingEngine
    """Trains the policy, and whatever shares its engine."""
    critic_engine: TrainingEngine | None
    """Trains a critic of its own; None where the policy's engine trains it too."""
    scorer: ResponseScorer
    packing: bool
    """Whether sequences of policy, reference and critic are packed."""

    def __init__(self, context: PhaseContext, ranks: Ranks, eos_token: int) -> None:
        self._context, self._ranks, self._eos_token = context, ranks, eos_token
        self._borrower: Borrower | None = None

    @abstractmethod
    def policy_outputs(self, batch: SequenceBatch) -> tuple[Tensor, ...]:
        """Return (logp_N,) of the trained policy, or (logp_N, value_N) without a critic engine."""

    @abstractmethod
    def reference_log_probs(self, batch: SequenceBatch) -> Tensor:
        """Return the reference's log-probabilities, [N] detached, in nats."""

    @property
    def valuing_engine(self) -> TrainingEngine:
        """The engine that trains what gives values."""
        return self.policy_engine if self.critic_engine is None else self.critic_engine

    def valuing_outputs(self, batch: SequenceBatch) -> tuple[Tensor, ...]:
        """Return what the network that gives values answers, values last, with gradient."""
        if self.critic_engine is None:
            return self.policy_outputs(batch)
        return (self.critic_engine(batch.tokens_BT, batch.predict_N, batch.positions_BT),)

    @abstractmethod
    def values(self, batch: SequenceBatch) -> Tensor:
        """Return the critic's values before each response token, [N] detached."""

    @abstractmethod
    def reference_sampler(self) -> TransformersSampler:
        """Return a sampler of the reference; it works while the policy's is lent."""

    @abstractmethod
    def add_policy(self, tokenizer: Path, folder: Path) -> None:
        """Write the policy as plain transformers or PEFT reads it; all ranks enter together."""

    @property
    @abstractmethod
    def reference_model(self) -> PreTrainedModel:
        """The language model whose frozen weights the reference is computed with."""

    @property
    @abstractmethod
    def _policy_lm(self) -> PreTrainedModel:
        """The trained language model."""

    def engines(self) -> dict[str, TrainingEngine]:
        """Return what is trained, by name."""
        engines = {"policy": self.policy_engine}
        if self.critic_engine is not None:
            engines["critic"] = self.critic_engine
        return engines

    @contextmanager
    def sampler(self) -> Iterator[TransformersSampler]:
        """Lend a sampler of the current policy; all ranks enter together."""
        with self.policy_engine.gathered():
            if self._borrower is None:
                yield self._sampler_of(self._policy_lm, Role.POLICY)
            else:
                with self._borrower.lent() as twin:
                    yield self._sampler_of(twin, Role.POLICY)

    def _lend_weights(self, lm: PreTrainedModel) -> None:
        """Provide for decoding with sharded weights; to be called before an engine has them."""
        if self._context.config.deepspeed.zero_stage >= SHARDED_PARAMETERS:
            self._borrower = Borrower(lm)

    def _sampler_of(self, lm: PreTrainedModel, role: Role) -> TransformersSampler:
        return sampler_of(self._context, lm, role, self._eos_token)

    def _engine(self, module: torch.nn.Module, groups: list[ParameterGroup]) -> TrainingEngine:
        config = self._context.config
        engine = TrainingEngine(module, groups, config.ppo, config.deepspeed, self._ranks)
        engine.train(mode=False)
        return engine

    def _separate_critic(self) -> TrainingEngine:
        """Return the engine of a critic that shares no weights with the policy."""
        context = self._context
        critic, held = critic_start(context, self._ranks.device)
        if self.packing:
            self.packing = packs(critic.classifier, context.config.ppo.packing, PACKING)
        parameters = list(critic.parameters())
        if held.lora is not None:
            seed = context.config.seed
            add_adapter(critic.classifier, held.lora, Role.CRITIC, held, seed=seed)
            critic.head.requires_grad_()
            adapter = train_adapter(critic.classifier, Role.CRITIC)
            parameters = adapter + list(critic.head.parameters())
        return self._engine(critic, [ParameterGroup(parameters, critic_learning_rate(context))])


def critic_start(context: PhaseContext, device: torch.device) -> tuple[ScalarHead, ModelConfig]:
    """Return what a separate critic starts from, and how it is held.

    It is the reward model's trunk with a zero head (InstructGPT, appendix C.4). A reward model with
    a tokenizer of its own cannot read the policy's tokens; then it is the SFT model's.
    """
    source, held = context.reward_model(), context.reward_model_config
    if context.prepared().reward_model_reads_text:
        source, held = context.sft_model(), context.config.model
    critic = ScalarHead(load_classifier(source, held, device, new_head=True))
    critic.reset_head(None)
    return critic, held


def critic_learning_rate(context: PhaseContext) -> float:
    """Return the largest learning rate of critic or value head."""
    ppo = context.config.ppo
    return ppo.critic_learning_rate or ppo.learning_rate


def sampler_of(
    context: PhaseContext, lm: PreTrainedModel, role: Role, eos_token: int
) -> TransformersSampler:
    """Return a sampler of a role of any model, with the run's settings."""
    ppo = context.config.ppo
    return TransformersSampler(
        lm,
        role=role,
        eos_token=eos_token,
        temperature=ppo.temperature,
        maximum_tokens=ppo.maximum_response_tokens,
        budget_tokens=DECODE_BUDGET_FACTOR * ppo.tokens_per_micro_batch,
        heartbeat=context.telemetry.heartbeat,
    )
