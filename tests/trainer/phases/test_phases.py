"""What the phases compute and leave behind, on the toy run, by 1 and 2 ranks."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from launching import Ended, Launching
from toy import training_config
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_trainer.contract import Phase
from rlhf_trainer.data.prepared import PreparedData

Trained = tuple[Launching, dict[Phase, Ended]]


def run(trained: Trained, phase: Phase, **changes: Any) -> Ended:
    end = trained[0].beside(phase).run(phase, training_config(**changes))
    assert end.code == 0, end.output[-3000:]
    return end


def after(trained: Trained, end: Ended) -> Launching:
    """Return a workspace in which PPO has ended so."""
    there = replace(trained[0], workspace=end.paths.root.parents[2])
    return there.beside(Phase.EVALUATION)


@pytest.fixture(scope="module")
def ppo(trained: Trained) -> Ended:
    return run(trained, Phase.PPO, ppo={"epochs": 2})


@pytest.fixture(scope="module")
def prepared(trained: Trained) -> PreparedData:
    return PreparedData(trained[1][Phase.PREPARATION].paths.data)


def test_sft_learns_its_demonstrations(trained: Trained) -> None:
    metrics = trained[1][Phase.SFT].result.metrics
    assert metrics["validationLossNatsPerToken"] < metrics["initialValidationLossNatsPerToken"]


def test_sft_loss_is_that_of_response_tokens_alone(
    trained: Trained, prepared: PreparedData
) -> None:
    """The first validation loss, recomputed one token at a time with the base model."""
    lm = AutoModelForCausalLM.from_pretrained(trained[0].data_root / "base")
    held_out, total, count = prepared.held_out_demonstrations(), 0.0, 0
    for row in range(len(held_out)):
        item = held_out[row]
        with torch.no_grad():
            logits = lm(input_ids=torch.from_numpy(item.tokens).unsqueeze(0)).logits[0]
        for position in np.flatnonzero(item.response_mask):
            logp = logits[position - 1].log_softmax(-1)[item.tokens[position]]
            total, count = total - float(logp), count + 1
    expected = total / count
    measured = trained[1][Phase.SFT].result.metrics["initialValidationLossNatsPerToken"]
    assert measured == pytest.approx(expected, abs=1e-4)


def test_reward_model_scores_demonstrations_zero_with_unit_spread(
    trained: Trained, prepared: PreparedData
) -> None:
    """The exported classifier, read by plain transformers at the last token of each sequence."""
    end = trained[1][Phase.REWARD_MODEL]
    classifier = AutoModelForSequenceClassification.from_pretrained(end.paths.model)
    mean, std = classifier.config.rlhf_score_mean, classifier.config.rlhf_score_std

    def score(tokens: np.ndarray) -> float:
        with torch.no_grad():
            return float(classifier(input_ids=torch.from_numpy(tokens).unsqueeze(0)).logits[0, 0])

    demonstrations, pairs = prepared.demonstrations(), prepared.pairs()
    raw = [score(demonstrations[row].tokens) for row in range(len(demonstrations))]
    assert np.mean(raw) == pytest.approx(mean, abs=1e-4)
    responses = [side for row in range(len(pairs)) for side in vars(pairs[row]).values()]
    assert np.std([score(tokens) for tokens in responses]) == pytest.approx(std, rel=1e-4)


def test_reward_model_accuracy_is_that_of_its_exported_weights(
    trained: Trained, prepared: PreparedData
) -> None:
    end = trained[1][Phase.REWARD_MODEL]
    classifier = AutoModelForSequenceClassification.from_pretrained(end.paths.model)
    held_out, right = prepared.held_out_pairs(), 0.0
    for row in range(len(held_out)):
        with torch.no_grad():
            chosen, rejected = (
                float(classifier(input_ids=torch.from_numpy(side).unsqueeze(0)).logits[0, 0])
                for side in (held_out[row].chosen, held_out[row].rejected)
            )
        right += (chosen > rejected) + 0.5 * (chosen == rejected)
    assert end.result.metrics["validationAccuracy"] == pytest.approx(right / len(held_out))


def test_ppo_records_every_step_from_the_sft_policy_on(ppo: Ended) -> None:
    records = ppo.history
    assert [record["step"] for record in records] == [0, 1, 2]
    assert records[0]["values"]["kl_nats"] == pytest.approx(0.0, abs=1e-5)
    assert records[2]["values"]["kl_nats"] != 0
    assert 'loss{name="policy"}' in records[0]["values"]
    assert 'loss{name="policy"}' not in records[2]["values"]  # the last rollout only measures
    assert set(records[0]["stageSeconds"]) >= {"rollout", "reference", "value", "score", "update"}


def test_ppo_adapts_the_kl_coefficient(ppo: Ended) -> None:
    """KL far below its target: each of the 2 steps multiplies by 1 - 0.2 x 16 / 100."""
    coefficients = [record["values"]["kl_coefficient"] for record in ppo.history]
    assert coefficients == pytest.approx([0.02, 0.02 * 0.968, 0.02 * 0.968**2])


def test_ppo_certifies_and_exports_its_last_policy(ppo: Ended) -> None:
    assert ppo.result.certified_step == 2
    certified = json.loads(ppo.paths.certified.read_text(encoding="utf-8"))
    assert certified == {"certifiedStep": 2, "checkpoint": "step-2"}
    assert AutoModelForCausalLM.from_pretrained(ppo.paths.model) is not None
    kept = sorted(path.name for path in ppo.paths.checkpoints.iterdir())
    assert kept == ["step-1", "step-2"]


def test_first_update_starts_from_ratio_one(trained: Trained) -> None:
    """One epoch of one minibatch: its policy is the one that sampled.

    k3 is half the squared log-ratio, so that its bound is one of 1e-6 on the ratio. KL to the SFT
    model is 0: the reference's logits are divided by the same temperature.
    """
    end = run(trained, Phase.PPO, ppo={"minibatchSize": 16, "temperature": 0.7})
    first = end.history[0]["values"]
    assert first["clip_fraction"] == 0
    assert first["policy_kl_nats_per_token"] == pytest.approx(0.0, abs=0.5e-12)
    assert first["kl_nats"] == pytest.approx(0.0, abs=1e-5)
    assert end.history[2]["values"]["kl_nats"] != 0


@pytest.mark.parametrize(
    "changes",
    [
        {"ppo": {"critic": "SharedTrunk"}},
        {"ppo": {"kl": {"placement": "Loss", "estimator": "K3"}, "whitenRewards": True}},
        {"ppo": {"missingEosPenalty": 1.0, "scoreClip": 0.5, "epochs": 2}},
    ],
    ids=["shared-trunk", "kl-in-loss", "shaped-scores"],
)
def test_ppo_variants_train(trained: Trained, changes: dict[str, Any]) -> None:
    end = run(trained, Phase.PPO, **changes)
    assert end.result.step == 2
    assert end.history[2]["values"]["kl_nats"] != 0
    assert end.history[1]["values"]["value_explained_variance"] != 0


def test_update_kl_limit_leaves_out_the_remaining_epochs(trained: Trained) -> None:
    changes = {"epochs": 4, "learningRate": 1e-2, "updateKl": {"limitNatsPerToken": 1e-9}}
    end = run(trained, Phase.PPO, ppo=changes)
    assert "ppo.updateKl limit exceeded in epoch 1 of 4" in end.output


@pytest.mark.parametrize("action", ["Warn", "ReduceLearningRate"])
def test_guard_actions_short_of_a_stop_let_training_go_on(trained: Trained, action: str) -> None:
    end = run(
        trained,
        Phase.PPO,
        ppo={"totalEpisodes": 16 * 6, "learningRate": 1e-2, "kl": {"controller": "Fixed"}},
        guard={"kl": {"limitNats": 1e-4, "action": action, "ceilingNats": 1e4}},
    )
    assert end.result.step == 6
    assert any("limit" in record["event"] for record in end.history)
    rates = [r["values"]["learning_rate"] for r in end.history if "learning_rate" in r["values"]]
    if action == "Warn":
        assert rates == [1e-2] * 6
    else:
        assert rates[0] == 1e-2
        assert rates[-1] <= 2.5e-3


def test_evaluation_compares_and_leaves_samples(trained: Trained, ppo: Ended) -> None:
    assert ppo.code == 0
    end = after(trained, ppo).run(Phase.EVALUATION, training_config())
    assert end.code == 0, end.output[-3000:]
    metrics = end.result.metrics
    assert 0 <= metrics["winRateLow"] <= metrics["winRate"] <= metrics["winRateHigh"] <= 1
    samples = [json.loads(line) for line in end.paths.samples.read_text("utf-8").splitlines()]
    assert len(samples) == 2
    assert set(samples[0]) == {"prompt", "sft", "ppo", "sftScore", "ppoScore"}


def test_win_rate_gate_exits_11(trained: Trained, ppo: Ended) -> None:
    assert ppo.code == 0
    config = training_config(evaluation={"minimumWinRate": 1.0})
    end = after(trained, ppo).run(Phase.EVALUATION, config)
    assert end.code == 11, end.output[-3000:]
    assert end.result.reason == "WinRateTooLow"
    assert end.result.metrics["winRate"] < 1


def test_evaluation_on_the_way_stands_under_the_step_it_measured(trained: Trained) -> None:
    end = run(trained, Phase.PPO, evaluation={"everySteps": 1})
    measured = ["win_rate" in record["values"] for record in end.history]
    assert measured == [False, True, True]
