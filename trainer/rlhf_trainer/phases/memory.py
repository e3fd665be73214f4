"""The memory plan of a run whose models are known by their configurations.

Decided here: when a plan ends a run. Only a GPU's memory that somebody has named refuses: machines
swap and share, and what they have to spare is not known.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.data.adapter_folders import base_of, is_adapter
from rlhf_trainer.data.prepared import PreparedSet, Reads, TokenisedSets
from rlhf_trainer.data.tokenizer import load_config
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.counting import architecture_of
from rlhf_trainer.phases.context import PhaseContext, source_in
from rlhf_trainer.phases.named_models import NamedModels
from rlhf_trainer.planning.changes import least_bytes, smallest_change
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import MemoryPlan, make_plan
from rlhf_trainer.planning.shapes import Lengths
from rlhf_trainer.planning.table import gib, line, refusal


def models_of(
    config: TrainingConfig, data_root: Path, named: NamedModels, reads: Reads = Reads.TOKENS
) -> Models | None:
    """Return the sizes of a run's models; None if those of one cannot be told.

    Raises:
        InvalidError: a configuration cannot be read.
        PhaseError: the hub does not answer.
    """
    policy = architecture_of(load_config(*named.policy))
    alike = named.reward == named.policy
    reward = policy if alike else architecture_of(load_config(*named.reward))
    if policy is None or reward is None:
        return None
    return Models(
        policy,
        reward,
        has_own_reward=_has_own_reward(config, data_root, named),
        reward_reads_text=reads is Reads.TEXT,
        sft_is_adapter=config.sft.from_ is None or is_adapter(named.policy.source),
    )


def _has_own_reward(config: TrainingConfig, data_root: Path, named: NamedModels) -> bool:
    """Return whether the reward model is no adapter of the policy's base."""
    if config.reward_model.from_ is None:
        return config.reward_model.model is not None
    folder = named.reward.source
    return not (is_adapter(folder) and source_in(data_root, base_of(folder)) == named.base.source)


def require_memory(
    context: PhaseContext, models: Models | None, sets: TokenisedSets
) -> MemoryPlan | None:
    """Tell what the run will need with the data's own lengths, where it is known where it runs.

    Raises:
        InvalidError: a phase cannot fit its GPUs.
    """
    if models is None or context.hardware is None:
        return None
    lengths = _lengths(sets)
    plan = make_plan(context.config, models, context.hardware.places, lengths)
    context.telemetry.note(line(plan))
    if plan.refused is not None:
        places = context.hardware.places
        edits = smallest_change(context.config, models, places, lengths)
        fix = fix_of(edits, context.config, models, places, lengths)
        raise InvalidError(*refusal(plan.refused), fix)
    return plan


def fix_of(
    edits: Sequence[str] | None,
    config: TrainingConfig,
    models: Models,
    places: Mapping[Phase, Place],
    lengths: Lengths | None = None,
) -> str:
    """Return what to do about a plan that is refused: the edits, or what GPUs it takes."""
    if edits:
        return f"set {' and '.join(edits)}"
    least = least_bytes(config, models, places, lengths)
    return (
        "none of the changes known here is enough: take GPUs with more memory "
        f"({gib(least)} GiB with those that spare most), or a smaller model"
    )


def _lengths(sets: TokenisedSets) -> Lengths:
    longest = {which: int(tokenised.data.lengths.max()) for which, tokenised in sets.items()}
    return Lengths(
        max(longest[PreparedSet.DEMONSTRATIONS], longest[PreparedSet.HELD_OUT_DEMONSTRATIONS]),
        max(longest[PreparedSet.COMPARISONS], longest[PreparedSet.HELD_OUT_COMPARISONS]),
        max(longest[PreparedSet.PROMPTS], longest[PreparedSet.HELD_OUT_PROMPTS]),
    )
