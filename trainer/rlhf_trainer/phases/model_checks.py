"""Whether a run's models can do what it asks of them, from their configurations and tokenizers.

Decided here: which models must read the policy's tokens, and what an existing reward model is
given. No weight is loaded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.data.adapter_folders import CONFIG, base_of, is_adapter
from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.data.prepared import Reads
from rlhf_trainer.data.problems import shortened
from rlhf_trainer.data.records import Prompt
from rlhf_trainer.data.tokenizer import (
    has_same_tokens,
    load_config,
    load_limits,
    load_tokenizer,
    require_same_tokenizer,
)
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.adapter_checks import (
    require_adapter,
    require_same_sizes,
    require_targets,
)
from rlhf_trainer.models.architecture import has_scalar_head, require_policy, require_scalar_head
from rlhf_trainer.models.reward_files import require_reward_model
from rlhf_trainer.phases.context import PhaseContext


class Model(NamedTuple):
    """A model that reads what is tokenised."""

    source: str
    """Folder, or hub id."""
    config: ModelConfig
    place: str
    """The field of the manifest that names it."""

    @property
    def named(self) -> str:
        """What stands in that field, as errors show it."""
        return shortened(self.config.source)


def require_policies(
    tokenizer: PreTrainedTokenizerBase, models: Sequence[Model], context: PhaseContext
) -> None:
    """Check the base model, and the SFT model if there is one already.

    Raises:
        InvalidError: an architecture cannot be a policy, or reads other tokens.
    """
    base, policy = models
    config = load_config(*policy)
    require_policy(config, policy.place, policy.named)
    if base.config.lora is not None:
        require_targets(load_config(*base), base.config.lora, "spec.model.lora")
    if policy != base:
        require_same_tokenizer(tokenizer, *policy)
        if is_adapter(policy.source):
            _require_adapter_of(base, policy, context)
    if context.config.reward_model.from_ is None and context.config.reward_model.model is None:
        require_scalar_head(load_config(*policy), policy.place, policy.named, "reward model")


def _require_adapter_of(base: Model, policy: Model, context: PhaseContext) -> None:
    """Refuse an SFT model that is an adapter of another model, or size, than the run's."""
    named = base_of(policy.source)
    if context.source(named) != base.source:
        raise InvalidError(
            policy.place,
            policy.named,
            f"is an adapter of {named}, and {base.place} is {base.named}",
            f"name that model, or correct base_model_name_or_path in its {CONFIG}",
        )
    folder, config = Path(policy.source), load_config(*base)
    require_adapter(folder, config, policy.place, policy.named)
    if base.config.lora is not None:
        require_same_sizes(folder, config, base.config.lora, policy.place, policy.named)


def reward_model_reads(
    tokenizer: PreTrainedTokenizerBase, policy: Model, reward: Model, context: PhaseContext
) -> Reads:
    """Return what the reward model is given: the policy's tokens, or text.

    Raises:
        InvalidError: it is none, cannot be trained from what is named, or the critic cannot.
    """
    config = context.config
    if config.reward_model.from_ is None:
        if config.reward_model.model is not None:
            require_same_tokenizer(tokenizer, *reward)
            require_scalar_head(load_config(*reward), reward.place, reward.named, "reward model")
            if reward.config.lora is not None:
                place = "spec.rewardModel.model.lora"
                require_targets(load_config(*reward), reward.config.lora, place)
        return Reads.TOKENS
    existing = load_config(*reward)
    require_reward_model(Path(reward.source), existing, reward.place, reward.named)
    if is_adapter(reward.source):
        require_adapter(Path(reward.source), existing, reward.place, reward.named)
    if has_same_tokens(tokenizer, load_tokenizer(*reward)) and has_scalar_head(existing):
        return Reads.TOKENS
    if config.ppo.critic is Critic.SEPARATE:
        require_scalar_head(load_config(*policy), policy.place, policy.named, "critic")
    return Reads.TEXT


def require_bridge(
    tokenizer: PreTrainedTokenizerBase, reward: Model, prompts: Sequence[Prompt]
) -> None:
    """Try every prompt on a reward model that reads text.

    Raises:
        InvalidError: its chat template is missing or refuses one, or one is too long for it.
    """
    bridge = Bridge(
        tokenizer,
        load_tokenizer(*reward),
        maximum_positions=load_limits(*reward).maximum_positions,
        ends_with_eos=has_scalar_head(load_config(*reward)),
    )
    bridge.require_prompts(prompts, reward.place, reward.named)
