"""Evaluation: the trained policy against the SFT policy on held-out prompts."""

from torch import Tensor

from rlhf_trainer.contract import Phase
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.errors import Facts, GateFailedError
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.phases.comparison import Comparison, ComparisonResult
from rlhf_trainer.phases.context import PhaseContext, PhaseReport
from rlhf_trainer.phases.ppo_networks import DECODE_BUDGET_FACTOR
from rlhf_trainer.phases.scoring import load_scorer
from rlhf_trainer.phases.text import load_tokenizer
from rlhf_trainer.rollout.sampler import TransformersSampler


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
    config, ppo = context.config, context.config.ppo
    prepared = context.prepared()
    tokenizer, eos_token = load_tokenizer(prepared.tokenizer), prepared.special_tokens().eos

    def policy(source: object) -> Policy:
        lm = load_causal_lm(str(source), config.model, ranks.device)
        return Policy(lm, temperature=ppo.temperature).requires_grad_(requires_grad=False)

    def sampler(side: Policy) -> TransformersSampler:
        return TransformersSampler(
            side.lm,
            eos_token=eos_token,
            temperature=ppo.temperature,
            maximum_tokens=ppo.maximum_response_tokens,
            budget_tokens=DECODE_BUDGET_FACTOR * ppo.tokens_per_micro_batch,
            heartbeat=context.telemetry.heartbeat,
        )

    sft, trained = policy(context.sft_model()), policy(context.completed(Phase.PPO).model)

    def reference_log_probs(batch: SequenceBatch) -> Tensor:
        return log_probs(sft, batch)

    comparison = Comparison(context, ranks, load_scorer(context, ranks), tokenizer)
    return comparison.compare(sampler(sft), sampler(trained), reference_log_probs)


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
