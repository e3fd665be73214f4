"""How many tokens a phase handles at once: from its settings, and lengths where they are known."""

from dataclasses import dataclass

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.contract import Phase

DECODE_BUDGET_FACTOR = 8
"""As in `phases.ppo_networks`."""


@dataclass(frozen=True)
class Lengths:
    """Longest sequences, in tokens."""

    demonstration: int
    response_of_pair: int
    """Prompt and response of a comparison."""
    prompt: int

    @classmethod
    def allowed(cls, config: TrainingConfig) -> "Lengths":
        """Return what the configuration lets through, for data that nobody has seen."""
        return cls(
            config.sft.maximum_tokens,
            config.reward_model.maximum_tokens,
            config.data.prompts.maximum_tokens,
        )


@dataclass(frozen=True)
class Update:
    """The largest micro-batch of an update, on one rank."""

    tokens: int
    predicted: int
    """Tokens whose log-probabilities are computed."""
    is_alone: bool
    """Whether an update is one micro-batch, so that no gradients exist beside its activations."""


@dataclass(frozen=True)
class Decoding:
    """The largest batch that is decoded at once, on one rank."""

    rows: int
    prompt: int
    length: int
    """Tokens of prompt and response of one row."""


def settings_of(phase: Phase, config: TrainingConfig) -> OptimizerConfig:
    """Return the settings of a trained phase."""
    return {Phase.SFT: config.sft, Phase.REWARD_MODEL: config.reward_model}.get(phase, config.ppo)


def update_of(phase: Phase, config: TrainingConfig, lengths: Lengths, ranks: int) -> Update:
    """Return the largest micro-batch of a phase, with sequences as long as they may be."""
    budget = settings_of(phase, config).tokens_per_micro_batch
    if phase is Phase.SFT:
        rows, length, share = config.sft.batch_size, lengths.demonstration, 1.0
    elif phase is Phase.REWARD_MODEL:
        rows, length, share = config.reward_model.batch_size, 2 * lengths.response_of_pair, 0.0
    else:
        response = config.ppo.maximum_response_tokens
        rows, length = config.ppo.minibatch_size, lengths.prompt + response
        share = response / length
    of_rank = -(-rows // ranks) * length
    tokens = min(max(budget, length), of_rank)
    return Update(tokens, round(share * tokens), is_alone=of_rank <= tokens)


def decoding_of(phase: Phase, config: TrainingConfig, lengths: Lengths, ranks: int) -> Decoding:
    """Return the largest batch that is decoded at once."""
    count = config.ppo.rollout_batch_size if phase is Phase.PPO else config.evaluation.prompt_count
    length = lengths.prompt + config.ppo.maximum_response_tokens
    budget = DECODE_BUDGET_FACTOR * config.ppo.tokens_per_micro_batch
    rows = min(-(-count // ranks), max(budget // length, 1))
    return Decoding(rows, lengths.prompt, length)
