"""Evaluation: the trained policy against the SFT policy on held-out prompts."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from rlhf_trainer.contract import Phase
from rlhf_trainer.data.adapter_folders import is_adapter
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.errors import Facts, GateFailedError
from rlhf_trainer.models.adapters import Role, load_adapter
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.models.role_model import RoleModel, answer
from rlhf_trainer.phases.comparison import Comparison, ComparisonResult
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.ppo_networks import sampler_of
from rlhf_trainer.phases.scoring import PACKING, load_scorer, scorer_on
from rlhf_trainer.phases.shared_base import load_shared_base
from rlhf_trainer.phases.text import load_tokenizer
from rlhf_trainer.rollout.experience import TokenMeasure
from rlhf_trainer.rollout.protocol import RolloutBackend
from rlhf_trainer.rollout.scoring import ResponseScorer


def run(context: PhaseContext, ranks: Ranks) -> PhaseReport:
    """Compare, write the samples, and hold the win rate against its gate."""
    context.telemetry.progress(0, 2, "sampling from both policies")
    with context.telemetry.stage("evaluation"):
        result = _compare(context, ranks)
    if ranks.is_main:
        result.write_samples(context.paths.samples, context.config.evaluation.sample_count)
    _export(context, result)
    low, high = result.win_rate_interval
    count = len(result.prompts)
    sentence = (
        f"the judge prefers the policy to SFT on {result.win_rate:.1%} of {count} held-out prompts "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )
    minimum = context.config.evaluation.minimum_win_rate
    if minimum is not None and result.win_rate < minimum:
        raise GateFailedError(
            f"{sentence}, below evaluation.minimumWinRate={minimum}; train longer, or look at "
            "the reward model's accuracy",
            reason="WinRateTooLow",
            facts=Facts(metrics=result.metrics()),
        )
    return PhaseReport(sentence, result.metrics(), step=1)


def _compare(context: PhaseContext, ranks: Ranks) -> ComparisonResult:
    prepared = context.prepared()
    tokenizer, eos_token = load_tokenizer(prepared.tokenizer), prepared.special_tokens().eos
    policies = _with_adapters if context.config.model.lora is not None else _whole
    sides = policies(context, ranks, eos_token)
    comparison = Comparison(context, ranks, sides.scorer, tokenizer)
    return comparison.compare(sides.sft, sides.trained, sides.reference_log_probs)


@dataclass(frozen=True)
class _Sides:
    sft: RolloutBackend
    trained: RolloutBackend
    reference_log_probs: TokenMeasure
    scorer: ResponseScorer


def _whole(context: PhaseContext, ranks: Ranks, eos_token: int) -> _Sides:
    """Return both policies as models of their own."""
    config = context.config

    def lm(source: Path) -> PreTrainedModel:
        return load_causal_lm(source, config.model, ranks.device)

    sft, trained = lm(context.sft_model()), lm(context.completed(Phase.PPO).model)
    reference = Policy(sft, temperature=config.ppo.temperature)
    return _Sides(
        sampler_of(context, sft, Role.REFERENCE, eos_token),
        sampler_of(context, trained, Role.POLICY, eos_token),
        partial(log_probs, reference),
        load_scorer(context, ranks),
    )


def _with_adapters(context: PhaseContext, ranks: Ranks, eos_token: int) -> _Sides:
    """Return both policies as adapters of one model."""
    ppo = context.config.ppo
    base = load_shared_base(context, ranks.device)
    packing = packs(base.lm, ppo.packing, PACKING)
    trained = context.completed(Phase.PPO).model
    if is_adapter(trained):
        load_adapter(base.lm, trained, Role.POLICY)
    model = RoleModel(base.lm, temperature=ppo.temperature, score_weight=base.score_weight).eval()
    return _Sides(
        sampler_of(context, base.lm, Role.REFERENCE, eos_token),
        sampler_of(context, base.lm, Role.POLICY, eos_token),
        partial(answer, model, Role.REFERENCE),
        scorer_on(base, model, context, ranks, packing=packing),
    )


def _export(context: PhaseContext, result: ComparisonResult) -> None:
    """Export the policy's numbers as metrics."""
    policy, telemetry = result.policy, context.telemetry
    telemetry.set("total_steps", 1)
    telemetry.set("win_rate", result.win_rate)
    telemetry.set("kl_nats", result.kl_nats)
    telemetry.set("kl_limit_nats", context.config.kl_limit_nats)
    telemetry.set("reward_score", float(policy.reward_scores.mean()))
    telemetry.set("entropy_nats_per_token", policy.entropy_nats_per_token)
    telemetry.set("response_length_tokens", policy.length_tokens)
    telemetry.set("distinct_2_ratio", policy.distinct_2)
    telemetry.finish_step(1)
