"""What PPO learns from an experience, by hand."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.config.ppo import KLConfig, KLEstimator, KLPlacement, PPOConfig
from rlhf_trainer.phases.ppo_collect import StepMeasurement
from rlhf_trainer.phases.ppo_targets import learning_targets, shaped_scores
from rlhf_trainer.rollout.experience import Experience, Sampled
from rlhf_trainer.rollout.protocol import Response


def experience() -> Experience:
    """Two responses: three tokens that end, one token that is cut."""
    responses = [
        Response(np.array([5, 6, 2]), np.zeros(3, np.float32), np.zeros(3, np.float32), ended=True),
        Response(np.array([7]), np.zeros(1, np.float32), np.zeros(1, np.float32), ended=False),
    ]
    sampled = Sampled([np.array([1]), np.array([1, 4])], responses)
    return Experience(
        sampled=sampled,
        mask_BT=sampled.mask_BT,
        logp_BT=torch.tensor([[-1.0, -2.0, -0.5], [-1.0, 0.0, 0.0]]),
        ref_logp_BT=torch.tensor([[-1.5, -1.0, -0.5], [-3.0, 0.0, 0.0]]),
        entropy_BT=torch.zeros(2, 3),
        value_BT=torch.tensor([[0.5, 0.6, 0.8], [0.1, 9.0, 9.0]]),
        score_B=torch.tensor([3.0, -4.0]),
    )


def settings(**changes: object) -> PPOConfig:
    return PPOConfig.model_validate({"rolloutBatchSize": 2, "minibatchSize": 2, **changes})


def test_scores_are_clipped_before_the_penalty_of_a_missing_end() -> None:
    ppo = settings(scoreClip=2.0, missingEosPenalty=1.5)
    assert shaped_scores(experience(), ppo).tolist() == [2.0, -3.5]


def test_returns_are_scores_less_the_kl_penalty_of_what_follows() -> None:
    """With lambda 1 and no discount a token's return is the sum of the rewards from it on."""
    targets = learning_targets(experience(), 0.1, settings(gaeLambda=1.0))
    # Penalties of row 0: 0.1 x (0.5, -1, 0); of row 1: 0.1 x 2. Scores 3 and -4 at the last token.
    assert targets.return_BT[0].tolist() == pytest.approx([3.05, 3.1, 3.0])
    assert targets.return_BT[1].tolist() == pytest.approx([-4.2, 0.0, 0.0])


def test_advantages_are_whitened_over_the_whole_rollout() -> None:
    targets = learning_targets(experience(), 0.1, settings())
    mask = experience().mask_BT
    assert float(targets.advantage_BT[mask].mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(targets.advantage_BT[mask].var(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert targets.advantage_BT[~mask].abs().sum() == 0


def test_penalty_in_the_loss_leaves_the_rewards_alone() -> None:
    kl = KLConfig(placement=KLPlacement.LOSS, estimator=KLEstimator.K3)
    targets = learning_targets(experience(), 0.1, settings(gaeLambda=1.0, kl=kl))
    assert targets.return_BT[0].tolist() == pytest.approx([3.0, 3.0, 3.0])


def test_whitened_rewards_keep_their_mean_and_get_unit_variance() -> None:
    plain = learning_targets(experience(), 0.1, settings(gaeLambda=1.0))
    white = learning_targets(experience(), 0.1, settings(gaeLambda=1.0, whitenRewards=True))
    rewards = torch.tensor([-0.05, 0.1, 3.0, -4.2])
    expected = (rewards - rewards.mean()) / rewards.std(correction=0) + rewards.mean()
    assert plain.return_BT[1, 0].item() == pytest.approx(-4.2)
    assert white.return_BT[1, 0].item() == pytest.approx(expected[3].item(), abs=1e-4)


PADDED = ("logp_BT", "ref_logp_BT", "entropy_BT", "value_BT")


@pytest.mark.parametrize("pad", [math.nan, math.inf, -1e30], ids=["nan", "infinite", "huge"])
@pytest.mark.parametrize(
    "changes", [{}, {"whitenRewards": True}, {"kl": {"estimator": "K3", "placement": "Loss"}}]
)
def test_values_at_padded_positions_never_matter(changes: dict[str, object], pad: float) -> None:
    plain = experience()
    spoilt = replace(
        plain,
        **{name: torch.where(plain.mask_BT, getattr(plain, name), pad) for name in PADDED},
    )
    expected = learning_targets(plain, 0.1, settings(**changes))
    found = learning_targets(spoilt, 0.1, settings(**changes))
    for name in (field.name for field in fields(found)):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    assert torch.isfinite(found.return_BT).all()
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(8)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    assert StepMeasurement.of(spoilt, tokenizer) == StepMeasurement.of(plain, tokenizer)


def test_penalty_of_a_missing_end_lowers_the_last_reward_alone() -> None:
    """Huang et al. 2023, "The N implementation details of RLHF with PPO", detail on EOS."""
    plain = learning_targets(experience(), 0.1, settings(gaeLambda=1.0))
    punished = learning_targets(experience(), 0.1, settings(gaeLambda=1.0, missingEosPenalty=1.5))
    difference = punished.return_BT - plain.return_BT
    assert difference.tolist() == [[0.0, 0.0, 0.0], [pytest.approx(-1.5), 0.0, 0.0]]
