"""The acting half of a PPO step: sample, and measure under reference, critic and reward model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_trainer.algorithms.masked import masked_mean, row_sum
from rlhf_trainer.algorithms.statistics import distinct_2, standard_error
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.guard import Measurement
from rlhf_trainer.models.packed_linear import packed
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.first_pass import FirstPass
from rlhf_trainer.phases.ppo_networks import Networks
from rlhf_trainer.rollout.experience import Experience, measure, sample


def collect(
    context: PhaseContext,
    networks: Networks,
    first_pass: FirstPass,
    prompts: Sequence[PromptTokens],
    step: int,
    *,
    ranks: Ranks,
) -> Experience:
    """Return one step's experience: responses, and what the networks make of them."""
    ppo, telemetry = context.config.ppo, context.telemetry
    with telemetry.stage("rollout"), networks.sampler() as sampler:
        sampled = sample(
            sampler,
            [prompt.tokens for prompt in prompts],
            ranks,
            seed=context.config.seed,
            step=step,
            maximum_tokens=ppo.maximum_response_tokens,
        )
    measured = partial(
        measure,
        sampled,
        ranks=ranks,
        heartbeat=telemetry.heartbeat,
        budget_tokens=ppo.tokens_per_micro_batch,
        packing=networks.packing,
    )
    with telemetry.stage("reference"), packed(networks.reference_model):
        ref_logp_BT = measured(networks.reference_log_probs)
    with telemetry.stage("value"), packed(networks.valuing_engine.module):
        value_BT = measured(first_pass.values)
    with telemetry.stage("score"):
        score = networks.scorer.responses(prompts, sampled)
    telemetry.increment(
        "tokens", float(sum(len(prompt.tokens) for prompt in prompts)), kind="prompt"
    )
    telemetry.increment("tokens", float(sampled.mask_BT.sum()), kind="response")
    return Experience(
        sampled=sampled,
        mask_BT=sampled.mask_BT,
        logp_BT=sampled.padded([response.log_probs for response in sampled.responses]),
        ref_logp_BT=ref_logp_BT,
        entropy_BT=sampled.padded([response.entropies for response in sampled.responses]),
        value_BT=value_BT,
        score_B=torch.from_numpy(score).float(),
    )


@dataclass(frozen=True)
class StepMeasurement:
    """What a rollout says about the policy that sampled it; means are over its rows."""

    kl_nats: float
    kl_standard_error_nats: float
    reward_score: float
    entropy_nats_per_token: float
    response_length_tokens: float
    missing_eos_fraction: float
    distinct_2_ratio: float

    @classmethod
    def of(cls, experience: Experience, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Measure an experience. KL is k1, summed over response tokens (arXiv:1909.08593)."""
        mask_BT = experience.mask_BT
        kl_B = row_sum(experience.logp_BT - experience.ref_logp_BT, mask_BT)
        tokens = [response.tokens.tolist() for response in experience.sampled.responses]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return cls(
            kl_nats=float(kl_B.mean()),
            kl_standard_error_nats=standard_error(kl_B.tolist()),
            reward_score=float(experience.score_B.mean()),
            entropy_nats_per_token=float(masked_mean(experience.entropy_BT, mask_BT)),
            response_length_tokens=float(mask_BT.sum(1).float().mean()),
            missing_eos_fraction=float((~experience.sampled.ended_B).float().mean()),
            distinct_2_ratio=distinct_2(texts),
        )

    @property
    def for_guard(self) -> Measurement:
        """What the guard watches."""
        return Measurement(
            kl_nats=self.kl_nats,
            entropy_nats_per_token=self.entropy_nats_per_token,
            response_length_tokens=self.response_length_tokens,
        )

    def headline(self) -> dict[str, float]:
        """Return the numbers of the phase's result, camelCase with units."""
        return {
            "klNats": self.kl_nats,
            "rewardScore": self.reward_score,
            "entropyNatsPerToken": self.entropy_nats_per_token,
            "responseLengthTokens": self.response_length_tokens,
        }
