"""Preparation: what can go wrong with data goes wrong here, before any GPU is held.

Decided here: the order of steps. Records are validated and the annotators' agreement is judged
before anything is tokenised, and what does not fit the model is refused before anything is written.
How each step works is decided in `data`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rlhf_trainer.data.check import CheckedData, check_data
from rlhf_trainer.data.encoding import Encoder
from rlhf_trainer.data.fit import require_positions, require_rows
from rlhf_trainer.data.prepared import PreparedData, PreparedSet, Reads, TokenisedSets
from rlhf_trainer.data.problems import invalid
from rlhf_trainer.data.special_tokens import choose_special_tokens
from rlhf_trainer.data.tokenise import (
    TokenisedSet,
    tokenise_comparisons,
    tokenise_demonstrations,
    tokenise_prompts,
)
from rlhf_trainer.data.tokenizer import load_limits, load_tokenizer
from rlhf_trainer.errors import GateFailedError
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.fetching import fetch_models, require_weight_files
from rlhf_trainer.phases.judge import load_entry_point
from rlhf_trainer.phases.memory import models_of, require_memory
from rlhf_trainer.phases.model_checks import (
    require_bridge,
    require_policies,
    reward_model_reads,
)
from rlhf_trainer.phases.named_models import named_models
from rlhf_trainer.planning.table import to_json

NUM_STEPS = len(PreparedSet) + 3
"""For progress: reading, one for each set, fetching models, writing."""


def run(context: PhaseContext) -> PhaseReport:
    """Validate, judge and tokenise the data of a run.

    Raises:
        InvalidError: the data, a model's files or the judge cannot be used as they are.
        GateFailedError: annotators agree less than is asked for.
    """
    config = context.config
    context.telemetry.progress(0, NUM_STEPS, "reading and validating the data")
    checked = check_data(config, context.data_root)
    if checked.problems:
        raise invalid(checked.problems)
    _pass_gate(checked)

    load_entry_point(config.evaluation.judge)

    base, policy, reward = named = named_models(config, context.data_root)
    limits = {each: load_limits(*each) for each in (base, policy, reward)}
    tokenizer = load_tokenizer(*base)
    require_policies(tokenizer, (base, policy), context)
    reads = reward_model_reads(tokenizer, policy, reward, context)
    require_weight_files(config, named)
    vocabulary_size = limits[base].vocabulary_size
    special = choose_special_tokens(tokenizer, vocabulary_size, base.place)

    sets = _tokenise(context, checked, Encoder(tokenizer, special, vocabulary_size))
    require_rows(config, sets)
    if reads is Reads.TEXT:
        # It reads other tokens, and what is too long for it is cut: see `data.bridge`.
        require_bridge(tokenizer, reward, [*checked.prompts.train, *checked.prompts.held_out])
        limits[reward] = replace(limits[reward], maximum_positions=None)
    require_positions(config, sets, limits[policy], limits[reward], eos_token=special.eos)
    plan = require_memory(context, models_of(config, context.data_root, named, reads), sets)
    context.telemetry.progress(NUM_STEPS - 2, NUM_STEPS, "fetching models")
    fetch_models(context, named)
    context.telemetry.progress(NUM_STEPS - 1, NUM_STEPS, "writing tokens")
    facts = {
        "model": {"source": config.model.source},
        "rewardModel": {"reads": reads.value},
        "data": checked.summary(),
        "memory": None if plan is None else to_json(plan),
    }
    PreparedData(context.paths.data).write(sets, tokenizer, special, facts)
    context.telemetry.progress(NUM_STEPS, NUM_STEPS, "done")
    return _report(checked, sets)


def _pass_gate(checked: CheckedData) -> None:
    gate, agreement = checked.gate, checked.agreement
    if gate is not None and not gate.passed:
        raise GateFailedError(
            f"spec.data.comparisons.minimumAgreement.atLeast={gate.at_least}: "
            f"{gate.statistic.value} is {gate.value:.3f} on {agreement.items} comparisons by "
            f"{agreement.raters} annotators; give them clearer instructions and have the "
            "comparisons annotated again, or lower the limit",
            reason="AgreementTooLow",
        )


def _tokenise(context: PhaseContext, checked: CheckedData, encoder: Encoder) -> TokenisedSets:
    config = context.config

    def beat() -> None:
        context.telemetry.heartbeat()
        context.stop_if_preempted()

    demonstrations = partial(
        tokenise_demonstrations, encoder, maximum_tokens=config.sft.maximum_tokens, heartbeat=beat
    )
    longest_pair = config.reward_model.maximum_tokens
    comparisons = partial(
        tokenise_comparisons, encoder, maximum_tokens=longest_pair, heartbeat=beat
    )
    longest_prompt = config.data.prompts.maximum_tokens
    prompts = partial(tokenise_prompts, encoder, maximum_tokens=longest_prompt, heartbeat=beat)
    first, second, third = checked.demonstrations, checked.comparisons, checked.prompts
    steps: dict[PreparedSet, Callable[[], TokenisedSet]] = {
        PreparedSet.DEMONSTRATIONS: lambda: demonstrations(first.train),
        PreparedSet.HELD_OUT_DEMONSTRATIONS: lambda: demonstrations(first.held_out),
        PreparedSet.COMPARISONS: lambda: comparisons(second.train),
        PreparedSet.HELD_OUT_COMPARISONS: lambda: comparisons(second.held_out),
        PreparedSet.PROMPTS: lambda: prompts(third.train),
        PreparedSet.HELD_OUT_PROMPTS: lambda: prompts(third.held_out),
    }
    sets: dict[PreparedSet, TokenisedSet] = {}
    for number, (which, tokenise) in enumerate(steps.items(), start=1):
        context.telemetry.progress(number, NUM_STEPS, f"tokenising {which}")
        sets[which] = tokenise()
    return sets


def _report(checked: CheckedData, sets: TokenisedSets) -> PhaseReport:
    counts = {
        "demonstrationCount": len(sets[PreparedSet.DEMONSTRATIONS].data),
        "comparisonCount": len(sets[PreparedSet.COMPARISONS].data),
        "promptCount": len(sets[PreparedSet.PROMPTS].data),
    }
    agreement = {
        "percentAgreement": checked.agreement.percent_agreement,
        "cohenKappa": checked.agreement.cohen_kappa,
        "fleissKappa": checked.agreement.fleiss_kappa,
    }
    measured = {name: value for name, value in agreement.items() if value is not None}
    demonstrations, comparisons, prompts = counts.values()
    message = f"{demonstrations} demonstrations, {comparisons} comparisons, {prompts} prompts"
    if checked.agreement.percent_agreement is not None:
        message += f"; annotators agree in {checked.agreement.percent_agreement:.1%} of pairs"
    splits = (checked.demonstrations, checked.comparisons, checked.prompts)
    if num_trained_on := sum(split.num_trained_on for split in splits):
        message += f"; held-out records that are trained on, too: {num_trained_on}"
    return PhaseReport(message, {**counts, **measured})
