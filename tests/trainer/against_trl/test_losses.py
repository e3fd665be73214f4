"""Our SFT and reward losses against those of the newest TRL: same models, same token rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peer import Peer
from start import BOS, EOS, WORDS
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_trainer.algorithms.losses import bradley_terry, cross_entropy
from rlhf_trainer.models.batch import collate
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.models.scalar_head import ScalarHead

TOLERANCE = 1e-5
CPU = torch.device("cpu")


def row(rng: np.random.Generator) -> list[int]:
    return [BOS, *rng.integers(3, WORDS, rng.integers(3, 12)).tolist(), EOS]


@pytest.fixture(scope="module")
def task(start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    rows = [row(rng) for _ in range(12)]
    prompts = [int(rng.integers(1, len(tokens))) for tokens in rows]
    return {
        "sft": str(start / "sft"),
        "reward": str(start / "reward"),
        "demonstrations": [
            {"input_ids": tokens, "completion_mask": [int(at >= end) for at in range(len(tokens))]}
            for tokens, end in zip(rows, prompts, strict=True)
        ],
        "comparisons": [{"chosen_ids": row(rng), "rejected_ids": row(rng)} for _ in range(9)],
        "found": str(tmp_path_factory.mktemp("losses") / "found.pt"),
    }


@pytest.fixture(scope="module")
def found(newest_trl: Peer, task: dict[str, Any]) -> dict[str, Any]:
    newest_trl.run("trl_losses.py", task, Path(task["found"]).parent)
    return torch.load(task["found"], weights_only=True)


def compare(
    found: dict[str, Any], loss: torch.Tensor, network: torch.nn.Module, prefix: str
) -> None:
    loss.backward()
    assert loss.item() == pytest.approx(found["loss"].item(), abs=TOLERANCE)
    ours = {name.removeprefix(prefix): p.grad for name, p in network.named_parameters()}
    assert set(ours) == set(found["gradients"])
    for name, theirs in found["gradients"].items():
        torch.testing.assert_close(ours[name], theirs, atol=TOLERANCE, rtol=0, msg=name)
    assert max(float(part.abs().max()) for part in found["gradients"].values()) > 100 * TOLERANCE


def test_sft_loss_and_gradient_are_trls_on_completions_alone(
    found: dict[str, Any], task: dict[str, Any]
) -> None:
    policy = Policy(AutoModelForCausalLM.from_pretrained(task["sft"]), temperature=1.0)
    rows = task["demonstrations"]
    batch = collate(
        [np.array(item["input_ids"]) for item in rows],
        [np.array(item["completion_mask"], np.bool_) for item in rows],
        CPU,
    )
    (logp,) = policy(batch.tokens_BT, batch.predict_N, batch.target_N)
    loss = cross_entropy(logp, num_tokens=sum(batch.counts))
    compare(found["sft"], loss, policy, "lm.")


def test_reward_loss_and_gradient_are_trls(found: dict[str, Any], task: dict[str, Any]) -> None:
    network = ScalarHead(AutoModelForSequenceClassification.from_pretrained(task["reward"]))
    sides = [
        np.array(pair[side]) for side in ("chosen_ids", "rejected_ids")
        for pair in task["comparisons"]
    ]  # fmt: skip
    batch = collate(sides, [np.zeros(len(side), np.bool_) for side in sides], CPU)
    scores = network(batch.tokens_BT, batch.last_B)
    chosen, rejected = scores.chunk(2)
    loss = bradley_terry(chosen, rejected, num_pairs=len(chosen))
    compare(found["reward"], loss, network, "classifier.")
