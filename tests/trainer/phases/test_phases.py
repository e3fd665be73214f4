"""What the phases compute and leave behind, on the toy run, by 1 and 2 ranks."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from launching import Ended, Launching
from one_start import Case, run_in_one_start
from toy import training_config
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_trainer.contract import Phase
from rlhf_trainer.data.prepared import PreparedData

Trained = tuple[Launching, dict[Phase, Ended]]


PPO: dict[str, dict[str, Any]] = {
    "two-epochs": {"ppo": {"epochs": 2}},
    "one-minibatch": {"ppo": {"minibatchSize": 16, "temperature": 0.7}},
    "shared-trunk": {"ppo": {"critic": "SharedTrunk"}},
    "kl-in-loss": {"ppo": {"kl": {"placement": "Loss", "estimator": "K3"}, "whitenRewards": True}},
    "shaped-scores": {"ppo": {"missingEosPenalty": 1.0, "scoreClip": 0.5, "epochs": 2}},
    "update-kl": {
        "ppo": {"epochs": 4, "learningRate": 1e-2, "updateKl": {"limitNatsPerToken": 1e-9}}
    },
    **{
        action: {
            "ppo": {
                "totalEpisodes": 16 * 6,
                "learningRate": 1e-2,
                "kl": {"controller": "Fixed"},
            },
            "guard": {"kl": {"limitNats": 1e-4, "action": action, "ceilingNats": 1e4}},
        }
        for action in ("Warn", "ReduceLearningRate")
    },
    "evaluated-on-the-way": {"evaluation": {"everySteps": 1}},
}
EVALUATION: dict[str, dict[str, Any]] = {
    "evaluation": {},
    "win-rate-gate": {"evaluation": {"minimumWinRate": 1.0}},
}
"""After PPO with two epochs."""


@pytest.fixture(scope="module")
def ended(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Each case of PPO beside the trained models, and each of Evaluation after one of them."""
    cases: dict[str, Case] = {
        name: Case(trained[0].beside(Phase.PPO), Phase.PPO, training_config(**changes))
        for name, changes in PPO.items()
    }
    first = cases["two-epochs"].place
    (first.workspace / "iteration-1" / Phase.PPO.slug).mkdir()
    for name, changes in EVALUATION.items():
        place = first.beside(Phase.EVALUATION)
        cases[name] = Case(place, Phase.EVALUATION, training_config(**changes))
    ends = run_in_one_start([*cases.values()], tmp_path_factory.mktemp("phases"))
    return dict(zip(cases, ends, strict=True))


def completed(ended: dict[str, Ended], name: str) -> Ended:
    end = ended[name]
    assert end.code == 0, end.output[-3000:]
    return end


@pytest.fixture(scope="module")
def ppo(ended: dict[str, Ended]) -> Ended:
    return completed(ended, "two-epochs")


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


def test_first_update_starts_from_ratio_one(ended: dict[str, Ended]) -> None:
    """One epoch of one minibatch: its policy is the one that sampled.

    k3 is half the squared log-ratio, so that its bound is one of 1e-6 on the ratio. KL to the SFT
    model is 0: the reference's logits are divided by the same temperature.
    """
    end = completed(ended, "one-minibatch")
    first = end.history[0]["values"]
    assert first["clip_fraction"] == 0
    assert first["policy_kl_nats_per_token"] == pytest.approx(0.0, abs=0.5e-12)
    assert first["kl_nats"] == pytest.approx(0.0, abs=1e-5)
    assert end.history[2]["values"]["kl_nats"] != 0


@pytest.mark.parametrize("name", ["shared-trunk", "kl-in-loss", "shaped-scores"])
def test_ppo_variants_train(ended: dict[str, Ended], name: str) -> None:
    end = completed(ended, name)
    assert end.result.step == 2
    assert end.history[2]["values"]["kl_nats"] != 0
    assert end.history[1]["values"]["value_explained_variance"] != 0


def test_update_kl_limit_leaves_out_the_remaining_epochs(ended: dict[str, Ended]) -> None:
    end = completed(ended, "update-kl")
    assert "ppo.updateKl limit exceeded in epoch 1 of 4" in end.output


def test_critic_with_an_engine_of_its_own_has_a_gradient_norm_of_its_own(
    ended: dict[str, Ended],
) -> None:
    apart, shared = (
        completed(ended, name).history[1]["values"] for name in ("two-epochs", "shared-trunk")
    )
    assert apart["critic_gradient_norm"] > 0
    assert "critic_gradient_norm" not in shared


@pytest.mark.parametrize("action", ["Warn", "ReduceLearningRate"])
def test_guard_actions_short_of_a_stop_let_training_go_on(
    ended: dict[str, Ended], action: str
) -> None:
    end = completed(ended, action)
    assert end.result.step == 6
    assert any("limit" in record["event"] for record in end.history)
    rates = [r["values"]["learning_rate"] for r in end.history if "learning_rate" in r["values"]]
    if action == "Warn":
        assert rates == [1e-2] * 6
    else:
        assert rates[0] == 1e-2
        assert rates[-1] <= 2.5e-3


def test_evaluation_compares_and_leaves_samples(ended: dict[str, Ended]) -> None:
    end = completed(ended, "evaluation")
    metrics = end.result.metrics
    assert 0 <= metrics["winRateLow"] <= metrics["winRate"] <= metrics["winRateHigh"] <= 1
    samples = [json.loads(line) for line in end.paths.samples.read_text("utf-8").splitlines()]
    assert len(samples) == 2
    assert set(samples[0]) == {"prompt", "sft", "ppo", "sftScore", "ppoScore"}


def test_win_rate_gate_exits_11(ended: dict[str, Ended]) -> None:
    end = ended["win-rate-gate"]
    assert end.code == 11, end.output[-3000:]
    assert end.result.reason == "WinRateTooLow"
    assert end.result.metrics["winRate"] < 1


def test_evaluation_on_the_way_stands_under_the_step_it_measured(ended: dict[str, Ended]) -> None:
    end = completed(ended, "evaluated-on-the-way")
    measured = ["win_rate" in record["values"] for record in end.history]
    assert measured == [False, True, True]
