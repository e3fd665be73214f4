"""What a rollout teaches: rewards, advantages and returns.

Legend: B = rows of the step, T = longest response.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_trainer.algorithms.gae import (
    advantages_and_returns,
    explained_variance,
    token_rewards,
)
from rlhf_trainer.algorithms.kl import token_kl
from rlhf_trainer.algorithms.masked import whiten
from rlhf_trainer.config.ppo import KLPlacement, PPOConfig
from rlhf_trainer.rollout.experience import Experience


@dataclass(frozen=True)
class Targets:
    """What an experience teaches: [B, T] float32, 0 outside the mask."""

    advantage_BT: Tensor
    """Whitened over the whole rollout."""
    return_BT: Tensor
    explained_variance: float


def learning_targets(experience: Experience, kl_coefficient: float, ppo: PPOConfig) -> Targets:
    """Return advantages and returns: InstructGPT equation 2, then GAE, then whitening."""
    mask_BT = experience.mask_BT
    penalty_BT = torch.zeros_like(experience.logp_BT)
    if ppo.kl.placement is KLPlacement.REWARD:
        kl_BT = token_kl(experience.logp_BT, experience.ref_logp_BT, ppo.kl.estimator)
        penalty_BT = kl_coefficient * kl_BT
    reward_BT = token_rewards(shaped_scores(experience, ppo), penalty_BT, mask_BT)
    if ppo.whiten_rewards:
        reward_BT = whiten(reward_BT, mask_BT, shift_mean=False)
    advantage_BT, return_BT = advantages_and_returns(
        reward_BT,
        experience.value_BT,
        mask_BT,
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
    )
    explained = explained_variance(experience.value_BT, return_BT, mask_BT)
    return Targets(whiten(advantage_BT, mask_BT), return_BT, explained)


def shaped_scores(experience: Experience, ppo: PPOConfig) -> Tensor:
    """Return scores after clipping, less the penalty of responses that did not end, [B]."""
    score_B = experience.score_B
    if ppo.score_clip is not None:
        score_B = score_B.clamp(-ppo.score_clip, ppo.score_clip)
    return score_B - ppo.missing_eos_penalty * (~experience.sampled.ended_B).float()
