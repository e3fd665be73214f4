"""A policy against the SFT model on held-out prompts: win rate, and what it does not see.

Both sample with the same draws at the temperature of training. Used by Evaluation, and by PPO on
its way.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_trainer.algorithms.masked import masked_mean, row_sum
from rlhf_trainer.algorithms.statistics import distinct_2, wilson_interval, win_count
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.judge import entry_point_scores, load_entry_point
from rlhf_trainer.phases.text import response_texts
from rlhf_trainer.rollout.experience import Sampled, TokenMeasure, measure, sample
from rlhf_trainer.rollout.protocol import RolloutBackend
from rlhf_trainer.rollout.scoring import ResponseScorer

EVALUATION_SEED_OFFSET = 2**31
"""Keeps the draws of evaluations apart from those of training steps."""


@dataclass(frozen=True)
class Side:
    """One policy's responses to the held-out prompts."""

    sampled: Sampled
    texts: list[str]
    judge_scores: NDArray[np.float64]
    reward_scores: NDArray[np.float64]

    @property
    def entropy_nats_per_token(self) -> float:
        """Mean entropy over response tokens."""
        sampled = self.sampled
        entropy_BT = sampled.padded([response.entropies for response in sampled.responses])
        return float(masked_mean(entropy_BT, sampled.mask_BT))

    @property
    def length_tokens(self) -> float:
        """Mean response length."""
        return float(self.sampled.mask_BT.sum(1).float().mean())

    @property
    def distinct_2(self) -> float:
        """Distinct word pairs over word pairs."""
        return distinct_2(self.texts)


@dataclass(frozen=True)
class ComparisonResult:
    """How a policy does against the SFT model."""

    prompts: list[str]
    sft: Side
    policy: Side
    kl_nats: float
    """KL of the policy to the SFT model per response, on these prompts."""

    @property
    def win_rate(self) -> float:
        """Share of prompts on which the judge prefers the policy; ties count half."""
        return self._wins / len(self.prompts)

    @property
    def win_rate_interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the win rate."""
        return wilson_interval(self._wins, len(self.prompts))

    @property
    def _wins(self) -> float:
        """Wins of the policy. The same response twice is a tie, whatever rounding makes of it."""
        same = [
            ours == theirs for ours, theirs in zip(self.policy.texts, self.sft.texts, strict=True)
        ]
        baseline = np.where(same, self.policy.judge_scores, self.sft.judge_scores)
        return win_count(self.policy.judge_scores.tolist(), baseline.tolist())

    def metrics(self) -> dict[str, float]:
        """Return headline numbers, camelCase with units."""
        low, high = self.win_rate_interval
        return {
            "winRate": self.win_rate,
            "winRateLow": low,
            "winRateHigh": high,
            "klNats": self.kl_nats,
            "rewardScore": float(self.policy.reward_scores.mean()),
            "sftRewardScore": float(self.sft.reward_scores.mean()),
            "entropyNatsPerToken": self.policy.entropy_nats_per_token,
            "sftEntropyNatsPerToken": self.sft.entropy_nats_per_token,
            "responseLengthTokens": self.policy.length_tokens,
            "sftResponseLengthTokens": self.sft.length_tokens,
            "distinct2": self.policy.distinct_2,
            "sftDistinct2": self.sft.distinct_2,
        }

    def write_samples(self, path: Path, count: int) -> None:
        """Write the first `count` prompts with both responses, one JSON line each."""
        rows = zip(
            self.prompts,
            self.sft.texts,
            self.policy.texts,
            self.sft.judge_scores.tolist(),
            self.policy.judge_scores.tolist(),
            strict=True,
        )
        lines = [
            json.dumps(
                {"prompt": prompt, "sft": sft, "ppo": ppo, "sftScore": low, "ppoScore": high},
                ensure_ascii=False,
            )
            for prompt, sft, ppo, low, high in rows
        ]
        path.write_text("".join(f"{line}\n" for line in lines[:count]), encoding="utf-8")


class Comparison:
    """Held-out prompts and a judge, ready to compare policies."""

    def __init__(
        self,
        context: PhaseContext,
        ranks: Ranks,
        scorer: ResponseScorer,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self._context, self._ranks, self._scorer = context, ranks, scorer
        self._tokenizer = tokenizer
        self._entry_point = load_entry_point(context.config.evaluation.judge)
        prepared = context.prepared()
        held_out = prepared.held_out_prompts()
        self._prompts = [held_out[row] for row in range(context.config.evaluation.prompt_count)]
        self._sft: Side | None = None

    def compare(
        self, sft: RolloutBackend, policy: RolloutBackend, reference_log_probs: TokenMeasure
    ) -> ComparisonResult:
        """Sample from both and compare; the SFT side is sampled once and kept."""
        self._sft = self._sft or self._side(sft)
        side = self._side(policy)
        return ComparisonResult(
            [prompt.text for prompt in self._prompts],
            self._sft,
            side,
            self._kl_nats(side.sampled, reference_log_probs),
        )

    def _side(self, backend: RolloutBackend) -> Side:
        sampled = sample(
            backend,
            [prompt.tokens for prompt in self._prompts],
            self._ranks,
            seed=self._context.config.seed + EVALUATION_SEED_OFFSET,
            step=0,
            maximum_tokens=self._context.config.ppo.maximum_response_tokens,
        )
        texts = response_texts(self._tokenizer, sampled.responses)
        rewards = self._scorer.responses(self._prompts, sampled)
        return Side(sampled, texts, self._judge(texts, rewards), rewards)

    def _judge(self, texts: list[str], rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._entry_point is None:
            return rewards
        prompts = [prompt.text for prompt in self._prompts]
        judged = partial(
            entry_point_scores, self._entry_point, prompts, texts, self._context.data_root
        )
        # Once, however many ranks there are: it may cost money, and need not say the same twice.
        return self._ranks.from_main(judged)

    def _kl_nats(self, sampled: Sampled, reference_log_probs: TokenMeasure) -> float:
        ref_logp_BT: Tensor = measure(
            sampled,
            reference_log_probs,
            self._ranks,
            self._context.telemetry.heartbeat,
            budget_tokens=self._context.config.ppo.tokens_per_micro_batch,
        )
        logp_BT = sampled.padded([response.log_probs for response in sampled.responses])
        with torch.no_grad():
            return float(row_sum(logp_BT - ref_logp_BT, sampled.mask_BT).mean())
