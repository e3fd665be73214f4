"""Our PPO, part by part, against what TRL's trainer computed from the same tensors.

TRL counts the position after an ended response as one more step, which gets the score
(`valueMask`); ours gives the score at the last token. So formulas are compared on TRL's masks, and
whole targets on responses that fill all their tokens, where both mean the same. See docs/trl.md.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peer import Peer
from start import BOS, EOS, PAD, make_prompts
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_trainer.algorithms.gae import advantages_and_returns, token_rewards
from rlhf_trainer.algorithms.kl import token_kl
from rlhf_trainer.algorithms.losses import policy_loss, value_loss
from rlhf_trainer.algorithms.masked import masked_mean, masked_variance, whiten
from rlhf_trainer.config.ppo import KLEstimator, PPOConfig
from rlhf_trainer.models.batch import SequenceBatch, collate, response_mask
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.models.scalar_head import ScalarHead
from rlhf_trainer.phases.ppo_targets import learning_targets
from rlhf_trainer.rollout.experience import Experience, Sampled
from rlhf_trainer.rollout.protocol import Response

TOLERANCE = 1e-5
CPU = torch.device("cpu")
BATCH, MINIBATCH, LENGTH = 32, 8, 6
VALUE_HEAD_SCALE = 0.5
TEMPERATURE, KL_COEFFICIENT, CLIP, VALUE_CLIP, VALUE_COEFFICIENT = 0.8, 0.07, 0.15, 0.1, 0.3
SETTINGS = {
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": 1,
    "num_mini_batches": BATCH // MINIBATCH,
    "num_ppo_epochs": 2,
    "total_episodes": BATCH,
    "local_rollout_forward_batch_size": BATCH,
    "response_length": LENGTH,
    "temperature": TEMPERATURE,
    "learning_rate": 1e-2,
    "kl_coef": KL_COEFFICIENT,
    "cliprange": CLIP,
    "cliprange_value": VALUE_CLIP,
    "vf_coef": VALUE_COEFFICIENT,
    "lam": 0.9,
    "seed": 5,
}
RUNS: dict[str, dict[str, Any]] = {
    "k1": {"stop_token": "eos"},
    "k3-discounted": {"stop_token": "eos", "kl_estimator": "k3", "gamma": 0.95},
    "whitened-rewards": {"stop_token": "eos", "whiten_rewards": True},
    "never-ending": {"stop_token": None, "gamma": 0.97},
}


def ragged(seed: int) -> dict[str, Tensor]:
    """Random values, each row's masked on a prefix; what lies outside is large."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(7, 11, generator=generator) * 3 + 1
    counts = torch.randint(1, 12, (7, 1), generator=generator)
    mask = torch.arange(11) < counts
    return {"values": torch.where(mask, values, 1e3), "mask": mask}


@pytest.fixture(scope="module")
def tensors() -> list[dict[str, Tensor]]:
    return [ragged(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def found(
    trl_with_ppo: Peer,
    start: Path,
    tensors: list[dict[str, Tensor]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pieces")
    torch.save(tensors, folder / "tensors.pt")
    models = {
        "sft": str(start / "sft"),
        "reference": str(start / "other"),
        "reward": str(start / "reward"),
        "valueHeadScale": VALUE_HEAD_SCALE,
        "prompts": make_prompts(BATCH),
    }
    task = {
        "tensors": str(folder / "tensors.pt"),
        "found": str(folder / "found.pt"),
        "runs": {name: models | {"settings": SETTINGS | changes} for name, changes in RUNS.items()},
    }
    trl_with_ppo.run("trl_pieces.py", task, folder)
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, found: dict[str, Any]) -> dict[str, Any]:
    return found["runs"][request.param] | {"settings": SETTINGS | RUNS[request.param]}


@dataclass(frozen=True)
class Rows:
    """TRL's rows of one rollout in our terms."""

    run: dict[str, Any]

    @property
    def mask(self) -> Tensor:
        """Response tokens."""
        return self.run["advantages"][0][1]

    @property
    def value_mask(self) -> Tensor:
        """Response tokens, and the position after those of an ended response."""
        mask = torch.zeros_like(self.mask)
        for part in self.run["minibatches"]:
            mask[part["rows"]] = part["valueMask"]
        return mask

    def batch(self, rows: list[int], mask: Tensor) -> SequenceBatch:
        """Return rows as our networks get them: pads to the right."""
        sequences, masks = [], []
        for row in rows:
            prompt = self.run["sequences"][row, : self.run["context"]]
            prompt = prompt[prompt != PAD]
            response = self.run["responses"][row][mask[row]]
            sequences.append(torch.cat([prompt, response]).numpy())
            masks.append(response_mask(len(prompt), len(sequences[-1])))
        return collate(sequences, masks, CPU)

    def setting(self, name: str) -> Any:
        return self.run["settings"].get(name)

    @property
    def penalty(self) -> Tensor:
        estimator = KLEstimator((self.setting("kl_estimator") or "k1").upper())
        kl = token_kl(self.run["logp"], self.run["refLogp"], estimator)
        return KL_COEFFICIENT * torch.where(self.mask, kl, 0.0)

    @property
    def returns(self) -> Tensor:
        return self.run["advantages"][0][0] + torch.where(self.value_mask, self.run["values"], 0.0)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def sample_scale(count: int) -> float:
    """TRL whitens by the sample's variance, ours, as OpenAI's code, by the population's."""
    return math.sqrt((count - 1) / count)


def test_masked_statistics_are_trls(
    found: dict[str, Any], tensors: list[dict[str, Tensor]]
) -> None:
    for case, theirs in zip(tensors, found["statistics"], strict=True):
        values, mask = case["values"], case["mask"]
        scale, mean = sample_scale(int(mask.sum())), masked_mean(values, mask)
        close(mean, theirs["mean"])
        close(masked_variance(values, mask), theirs["populationVariance"])
        close(masked_variance(values, mask) / scale**2, theirs["variance"])
        close(whiten(values, mask)[mask] * scale, theirs["whitened"][mask])
        kept = whiten(values, mask, shift_mean=False)[mask]
        close((kept - mean) * scale + mean, theirs["scaled"][mask])


def test_what_trl_computed_has_ended_and_cut_rows_of_several_lengths(
    found: dict[str, Any],
) -> None:
    lengths = Rows(found["runs"]["k1"]).mask.sum(1)
    assert len(set(lengths.tolist())) > 3
    ended = (found["runs"]["k1"]["responses"] == EOS).any(1)
    assert 0 < int(ended.sum()) < BATCH
    assert Rows(found["runs"]["never-ending"]).mask.all()


def test_log_probs_values_and_scores_are_trls(run: dict[str, Any], start: Path) -> None:
    rows = Rows(run)
    batch = rows.batch(list(range(BATCH)), rows.mask)
    for folder, theirs in (("sft", "logp"), ("other", "refLogp")):
        lm = AutoModelForCausalLM.from_pretrained(start / folder)
        logp = log_probs(Policy(lm, temperature=TEMPERATURE), batch)
        close(logp, run[theirs][rows.mask])
    network = ScalarHead(AutoModelForSequenceClassification.from_pretrained(start / "reward"))
    with torch.no_grad():
        close(network(batch.tokens_BT, batch.last_B), run["scores"])
        network.head.weight *= VALUE_HEAD_SCALE
        close(network(batch.tokens_BT, batch.predict_N), run["values"][rows.mask])


def test_rewards_and_advantages_are_trls(run: dict[str, Any]) -> None:
    rows = Rows(run)
    mask = rows.value_mask
    assert rows.penalty.abs().max() > 100 * TOLERANCE
    reward = token_rewards(run["scores"], rows.penalty, mask)
    if rows.setting("whiten_rewards"):
        (theirs,), _, white = run["whitenedRewards"]
        close(reward, theirs)
        mean, scale = masked_mean(reward, mask), sample_scale(int(mask.sum()))
        reward = (whiten(reward, mask, shift_mean=False) - mean) * scale + mean
        reward = torch.where(mask, reward, 0.0)
        close(reward[mask], white[mask])
    advantage, returns = advantages_and_returns(
        reward,
        run["values"],
        mask,
        discount=rows.setting("gamma") or 1.0,
        gae_lambda=rows.setting("lam"),
    )
    (theirs, within), _, white = run["advantages"]
    close(advantage, theirs)
    close(returns, rows.returns)
    ours = whiten(advantage, within) * sample_scale(int(within.sum()))
    close(ours[within], white[within])


def test_what_a_rollout_teaches_is_trls(found: dict[str, Any]) -> None:
    """The whole way from an experience to its targets, on responses that fill all their tokens."""
    rows = Rows(found["runs"]["never-ending"] | {"settings": SETTINGS | RUNS["never-ending"]})
    run = rows.run
    nothing = np.zeros(LENGTH, np.float32)
    responses = [Response(row.numpy(), nothing, nothing, ended=False) for row in run["responses"]]
    experience = Experience(
        sampled=Sampled([np.array([BOS])] * BATCH, responses),
        mask_BT=rows.mask,
        logp_BT=run["logp"],
        ref_logp_BT=run["refLogp"],
        entropy_BT=torch.zeros_like(run["logp"]),
        value_BT=run["values"],
        score_B=run["scores"],
    )
    settings = PPOConfig(
        rollout_batch_size=BATCH,
        minibatch_size=MINIBATCH,
        discount=rows.setting("gamma"),
        gae_lambda=rows.setting("lam"),
    )
    targets = learning_targets(experience, KL_COEFFICIENT, settings)
    close(targets.advantage_BT * sample_scale(BATCH * LENGTH), run["advantages"][2])
    close(targets.return_BT, rows.returns)


def test_clipped_losses_are_trls_in_every_minibatch(run: dict[str, Any]) -> None:
    rows = Rows(run)
    clipped_tokens = 0
    for part in run["minibatches"]:
        picked, mask, value_mask = part["rows"], part["mask"], part["valueMask"]
        loss = policy_loss(
            part["logp"][mask],
            run["logp"][picked][mask],
            run["advantages"][2][picked][mask],
            clip_range=CLIP,
            num_tokens=int(mask.sum()),
        )
        close(loss.loss, part["policyLoss"])
        clipped_tokens += int(loss.clipped_tokens)
        value = value_loss(
            part["values"][value_mask],
            run["values"][picked][value_mask],
            rows.returns[picked][value_mask],
            clip_range=VALUE_CLIP,
            num_tokens=int(value_mask.sum()),
        )
        close(value, part["valueLoss"])
        assert loss.clipped_tokens >= part["clippedShare"] * mask.sum() - 0.5
    assert clipped_tokens > 0
    last = run["minibatches"][-1]
    moved = (last["values"] - run["values"][last["rows"]])[last["valueMask"]]
    assert (moved.abs() > VALUE_CLIP).any()
    assert sum(float(part["clippedShare"]) for part in run["minibatches"]) > 0


def test_gradients_of_the_first_update_are_trls(run: dict[str, Any], start: Path) -> None:
    rows = Rows(run)
    part = run["minibatches"][0]
    picked, mask, value_mask = part["rows"], part["mask"], part["valueMask"]
    policy = Policy(AutoModelForCausalLM.from_pretrained(start / "sft"), temperature=TEMPERATURE)
    batch = rows.batch(picked, rows.mask)
    policy_loss(
        policy(batch.tokens_BT, batch.predict_N, batch.target_N)[0],
        run["logp"][picked][mask],
        run["advantages"][2][picked][mask],
        clip_range=CLIP,
        num_tokens=int(mask.sum()),
    ).loss.backward()
    critic = ScalarHead(AutoModelForSequenceClassification.from_pretrained(start / "reward"))
    with torch.no_grad():
        critic.head.weight *= VALUE_HEAD_SCALE
    batch = rows.batch(picked, rows.value_mask)
    loss = value_loss(
        critic(batch.tokens_BT, batch.predict_N),
        run["values"][picked][value_mask],
        rows.returns[picked][value_mask],
        clip_range=VALUE_CLIP,
        num_tokens=int(value_mask.sum()),
    )
    (VALUE_COEFFICIENT * loss).backward()
    ours = {f"policy.{name}": p.grad for name, p in policy.lm.named_parameters()}
    ours |= {f"value_model.{name}": p.grad for name, p in critic.classifier.named_parameters()}
    assert set(ours) == set(run["gradients"])
    for name, theirs in run["gradients"].items():
        close(ours[name], theirs)
