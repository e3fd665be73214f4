"""Whole runs of several architectures, tied and untied; what they export, read by transformers.

The last rollout of PPO is repeated with the exported models alone: KL and score come out as the
networks in memory measured them only if every weight, the map of scores and padding are right.
"""

from typing import Any

import numpy as np
import pytest
import torch
from architectures import OWN, make_config
from numpy.typing import NDArray
from one_process import Run, run_all, sequence_of
from toy import make_run, save_base, training_config
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from rlhf_trainer.contract import Phase

VARIANTS: dict[str, dict[str, Any]] = {
    "llama-untied": {},
    "llama-tied": {"deepspeed": {"zeroStage": 3}},
    "gpt2-tied": {"deepspeed": {"zeroStage": 3}},
    "gpt2-untied": {"ppo": {"critic": "SharedTrunk"}},
    "qwen2-tied": {"deepspeed": {"zeroStage": 2}},
    "qwen2-untied": {"deepspeed": {"zeroStage": 3}, "ppo": {"critic": "SharedTrunk"}},
    "mistral-tied": {"ppo": {"critic": "SharedTrunk"}},
    "mistral-untied": {"deepspeed": {"zeroStage": 2}},
}
BATCH = 8
SMALL: dict[str, Any] = {
    "sft": {"maximumSteps": 1},
    "rewardModel": {"maximumSteps": 2},
    "ppo": {
        "totalEpisodes": BATCH,
        "rolloutBatchSize": BATCH,
        "minibatchSize": 4,
        "maximumResponseTokens": 6,
    },
    "evaluation": {"promptCount": 2},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = make_run(tmp_path_factory.mktemp("architectures"))
    made = {}
    for name, changes in VARIANTS.items():
        model_type, _, tie = name.partition("-")
        save_base(root / name, make_config(model_type, tied=tie == "tied"))
        config = training_config(**SMALL, model={"source": name})
        for section, values in changes.items():
            config[section] = config.get(section, {}) | values
        made[name] = Run(str(root), str(root / f"run-{name}"), config)
    run_all(list(made.values()), root)
    return made


@pytest.fixture(params=list(VARIANTS))
def run(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


def plain_log_prob(lm: PreTrainedModel, sequence: NDArray[np.int64], prompt_length: int) -> float:
    """Return the sum of the response's log-probabilities, one sequence without padding."""
    tokens = torch.from_numpy(sequence)
    with torch.no_grad():
        logp = lm(input_ids=tokens.unsqueeze(0)).logits[0].log_softmax(-1)
    positions = torch.arange(prompt_length - 1, len(tokens) - 1)
    return float(logp[positions, tokens[prompt_length:]].sum())


def test_exported_policies_differ_by_the_kl_that_ppo_measured(run: Run) -> None:
    policy, sft = run.policy(Phase.PPO), run.policy(Phase.SFT)
    kls = []
    for prompt, response in zip(*run.last_rollout(), strict=True):
        sequence, start = sequence_of(prompt, response), len(prompt.tokens)
        kls.append(plain_log_prob(policy, sequence, start) - plain_log_prob(sft, sequence, start))
    measured = run.last_record["kl_nats"]
    assert abs(measured) > 1e-4
    assert np.mean(kls) == pytest.approx(measured, abs=1e-5)


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_exported_reward_model_scores_padded_batches_as_ppo_did(
    run: Run, padding_side: str
) -> None:
    folder = run.paths(Phase.REWARD_MODEL).model
    classifier = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=padding_side)
    eos = tokenizer.eos_token_id
    rows = []
    for prompt, response in zip(*run.last_rollout(), strict=True):
        sequence = sequence_of(prompt, response).tolist()
        rows.append(sequence if response.ended else [*sequence, eos])
    rows.append([*rows[0][:2], eos])
    batch = tokenizer.pad([{"input_ids": row} for row in rows], return_tensors="pt")
    assert (batch["attention_mask"] == 0).any()
    # padding on the left moves positions, where nobody says what they are
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        raw = classifier(**batch, position_ids=positions).logits[:, 0]
        alone = [classifier(input_ids=torch.tensor([row])).logits[0, 0] for row in rows]
    torch.testing.assert_close(raw, torch.stack(alone), atol=1e-5, rtol=1e-5)
    mean, std = classifier.config.rlhf_score_mean, classifier.config.rlhf_score_std
    measured = run.last_record["reward_score"]
    assert float((raw[:BATCH].mean() - mean) / std) == pytest.approx(measured, abs=1e-4)


def test_exported_sft_model_has_the_validation_loss_of_the_trained_one(run: Run) -> None:
    lm, held_out = run.policy(Phase.SFT), run.prepared.held_out_demonstrations()
    total, count = 0.0, 0
    for row in range(len(held_out)):
        item = held_out[row]
        with torch.no_grad():
            logp = lm(input_ids=torch.from_numpy(item.tokens)[None]).logits[0].log_softmax(-1)
        for position in np.flatnonzero(item.response_mask):
            total -= float(logp[position - 1, item.tokens[position]])
            count += 1
    measured = run.result(Phase.SFT).metrics["validationLossNatsPerToken"]
    assert total / count == pytest.approx(measured, abs=1e-5)


def test_checkpoint_and_export_hold_the_same_policy_tied_as_it_was(
    run: Run, request: pytest.FixtureRequest
) -> None:
    exported = run.policy(Phase.PPO)
    kept = AutoModelForCausalLM.from_pretrained(run.paths(Phase.PPO).checkpoint(1))
    for (name, one), other in zip(exported.named_parameters(), kept.parameters(), strict=True):
        assert torch.equal(one, other), name
    tied = exported.get_input_embeddings().weight is exported.get_output_embeddings().weight
    assert tied == ("-tied" in request.node.name)


def test_exported_policy_pads_and_ends_with_the_tokens_of_its_training(run: Run) -> None:
    special = run.prepared.special_tokens()
    for phase in (Phase.SFT, Phase.PPO):
        lm = run.policy(phase)
        assert lm.generation_config.pad_token_id == lm.config.pad_token_id == special.pad
        assert lm.generation_config.eos_token_id == special.eos


def test_all_architectures_are_run_tied_and_untied() -> None:
    assert set(VARIANTS) == {f"{name}-{tie}" for name in OWN for tie in ("tied", "untied")}
