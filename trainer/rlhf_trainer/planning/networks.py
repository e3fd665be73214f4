"""Which networks a phase holds, and how: as `phases` and their `ppo_full`, `ppo_adapters` do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import LoRAConfig
from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.contract import Phase
from rlhf_trainer.planning.architecture import Architecture


@dataclass(frozen=True)
class Models:
    """The architectures of a run, and what its existing models are."""

    policy: Architecture
    reward: Architecture
    """Of the reward model; the policy's where it starts from the SFT model."""
    has_own_reward: bool = False
    """Whether the reward model brings a base of its own."""
    reward_reads_text: bool = False
    """Whether it has a tokenizer of its own; the critic then starts from the SFT model."""
    sft_is_adapter: bool = True
    """Of a run with LoRA: whether the SFT model is an adapter, and not whole."""


@dataclass(frozen=True)
class Network:
    """One copy of weights."""

    name: str
    architecture: Architecture
    parameters: int
    trained: int = 0
    """Parameters that learn; with any, the network is in an engine."""
    forwards: int = 1
    """Forward passes that one loss keeps."""
    has_vocabulary: bool = False
    """Whether log-probabilities are read from it."""


def networks_of(phase: Phase, config: TrainingConfig, models: Models) -> list[Network]:
    """Return what a phase holds on every GPU, in the order in which it is loaded."""
    match phase:
        case Phase.PREPARATION:
            return []
        case Phase.SFT:
            return [_sft(config, models)]
        case Phase.REWARD_MODEL:
            return [_reward_model(config, models)]
        case Phase.PPO:
            lora = config.model.lora
            return _ppo_full(config, models) if lora is None else _ppo_lora(config, lora, models)
        case Phase.EVALUATION:
            return _evaluation(config, models)
        case _:
            assert_never(phase)


def _sft(config: TrainingConfig, models: Models) -> Network:
    whole, lora = models.policy.parameters, config.model.lora
    adapter = _adapter(models.policy, lora)
    return Network(
        "policy",
        models.policy,
        whole + adapter,
        trained=adapter if lora else whole,
        has_vocabulary=True,
    )


def _reward_model(config: TrainingConfig, models: Models) -> Network:
    held = config.reward_model.model or config.model
    return _classifier("reward model", models.reward, held.lora)


def _classifier(name: str, architecture: Architecture, lora: LoRAConfig | None) -> Network:
    """Return a trained classifier, the head of which learns with its adapter."""
    whole, adapter = architecture.classifier_parameters, _adapter(architecture, lora)
    trained = adapter + architecture.hidden if lora else whole
    return Network(name, architecture, whole + adapter, trained=trained)


def _ppo_full(config: TrainingConfig, models: Models) -> list[Network]:
    policy = models.policy
    shared = config.ppo.critic is Critic.SHARED_TRUNK
    head = policy.hidden + 1 if shared else 0
    whole = policy.parameters + head
    networks = [
        Network("reference", policy, policy.parameters, has_vocabulary=True),
        Network("policy", policy, whole, trained=whole, has_vocabulary=True),
    ]
    if not shared:
        networks.append(_separate_critic(config, models))
    return [*networks, _scorer(models)]


def _separate_critic(config: TrainingConfig, models: Models) -> Network:
    if models.reward_reads_text:
        return _classifier("critic", models.policy, config.model.lora)
    held = config.reward_model.model or config.model
    return _classifier("critic", models.reward, held.lora)


def _scorer(models: Models) -> Network:
    return Network("reward model", models.reward, models.reward.classifier_parameters)


def _ppo_lora(config: TrainingConfig, lora: LoRAConfig, models: Models) -> list[Network]:
    """Return the base with the adapters of all roles, and a reward model's own base twice.

    That is held frozen to score, and by the critic that starts from it.
    """
    policy, adapter = models.policy, _adapter(models.policy, lora)
    frozen = adapter if models.sft_is_adapter else 0
    if not models.has_own_reward:
        frozen += adapter + policy.hidden
    shared = config.ppo.critic is Critic.SHARED_TRUNK
    critic_on_base = not shared and (not models.has_own_reward or models.reward_reads_text)
    has_own_critic = not shared and not critic_on_base
    head = 0 if has_own_critic else policy.hidden + 1
    trained = adapter * (2 if critic_on_base else 1) + head
    networks = [
        Network(
            "policy",
            policy,
            policy.parameters + frozen + trained,
            trained=trained,
            forwards=2 if critic_on_base else 1,
            has_vocabulary=True,
        )
    ]
    if has_own_critic:
        networks.append(_separate_critic(config, models))
    return [*networks, _scorer(models)] if models.has_own_reward else networks


def _evaluation(config: TrainingConfig, models: Models) -> list[Network]:
    policy, lora = models.policy, config.model.lora
    if lora is None:
        both = [Network(name, policy, policy.parameters) for name in ("SFT model", "policy")]
        return [*both, _scorer(models)]
    adapters = 2 if models.has_own_reward else 3
    base = Network("base", policy, policy.parameters + adapters * _adapter(policy, lora))
    return [base, _scorer(models)] if models.has_own_reward else [base]


def _adapter(architecture: Architecture, lora: LoRAConfig | None) -> int:
    if lora is None:
        return 0
    return architecture.adapter_parameters(lora.rank, lora.target_modules)


def engines(networks: Sequence[Network]) -> list[Network]:
    """Return the trained ones."""
    return [network for network in networks if network.trained]
