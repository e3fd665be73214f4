"""How many tokens a phase handles at once: from its settings, and lengths where they are known."""

from dataclasses import dataclass

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.contract import Phase
from rlhf_trainer.contract.limits import DECODE_BUDGET_FACTOR, WIDTH_STEP


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
    """Those that are computed: PPO's last ones predict nothing."""
    read: int
    """Tokens whose last hidden state is read: for a log-probability, a value or a score."""
    places: int | None
    """Those that attention computes where rows are packed, pads included; else None."""
    is_alone: bool
    """Whether an update is one micro-batch, so that no gradients exist beside its activations."""
    is_scaled: bool = False
    """Whether logits are divided by a temperature."""
    is_measured: bool = False
    """Whether the pass that measures values is kept for it: see `phases.first_pass`."""


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


def update_of(
    phase: Phase, config: TrainingConfig, lengths: Lengths, ranks: int, *, is_gpu: bool
) -> Update:
    """Return the largest micro-batch of a phase, with sequences as long as they may be.

    On a CPU models are taken to keep packed sequences apart: most do. On a GPU FlashAttention pads
    none.
    """
    settings, ppo = settings_of(phase, config), config.ppo
    budget, is_padded = settings.tokens_per_micro_batch, is_gpu or settings.packing is False
    if phase is Phase.SFT:
        rows, length = config.sft.batch_size, lengths.demonstration
        computed, read, places = length, length - 1, _padded(length)
    elif phase is Phase.REWARD_MODEL:
        rows, length = config.reward_model.batch_size, 2 * lengths.response_of_pair
        computed, read, places = length, 2, 2 * _padded(lengths.response_of_pair)
    else:
        rows, length = ppo.minibatch_size, lengths.prompt + ppo.maximum_response_tokens
        computed, read = length - 1, ppo.maximum_response_tokens
        places = _padded(computed)
    of_rank = -(-rows // ranks) * length
    tokens = min(max(budget, length), of_rank)
    sequences = tokens / length
    return Update(
        round(sequences * computed),
        round(sequences * read),
        None if is_padded else round(sequences * places),
        is_alone=of_rank <= tokens,
        is_scaled=phase is Phase.PPO and ppo.temperature != 1,
        is_measured=phase is Phase.PPO and ppo.minibatch_size == ppo.rollout_batch_size,
    )


def _padded(tokens: int) -> int:
    return -(-tokens // WIDTH_STEP) * WIDTH_STEP


def decoding_of(phase: Phase, config: TrainingConfig, lengths: Lengths, ranks: int) -> Decoding:
    """Return the largest batch that is decoded at once."""
    count = config.ppo.rollout_batch_size if phase is Phase.PPO else config.evaluation.prompt_count
    length = lengths.prompt + config.ppo.maximum_response_tokens
    budget = DECODE_BUDGET_FACTOR * config.ppo.tokens_per_micro_batch
    rows = min(-(-count // ranks), max(budget // length, 1))
    return Decoding(rows, lengths.prompt, length)
