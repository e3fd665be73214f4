"""The same start for both sides: a policy, a reward model and prompts of a few made-up words.

The policy writes sentences and ends most of them; the reward model likes pleasant words. Both were
trained for some seconds, with a fixed seed. The policy never writes the padding token: TRL takes
the first one in a response for its end, ours for a token as any other.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid
from toy import NEUTRAL, PLEASANT, SPECIAL, UNPLEASANT, make_run, training_config
from transformers import PhiConfig, PhiForCausalLM, PhiForSequenceClassification

PAD, BOS, EOS = range(3)
WORDS = len(SPECIAL) + len(PLEASANT) + len(UNPLEASANT) + len(NEUTRAL)
NUM_PROMPTS = 344
FIRST_PLEASANT, FIRST_UNPLEASANT, FIRST_NEUTRAL = 3, 8, 13
NEVER = -40.0
"""Bias of the padding token's logit."""


def make_start(root: Path) -> Path:
    """Fill `root` with data, `base`, `sft`, `reward` and `other`, another policy; return it."""
    make_run(root)
    rng = np.random.default_rng(1)
    with (root / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(NUM_PROMPTS):
            words = rng.choice(NEUTRAL, int(rng.integers(2, 6)))
            file.write(json.dumps({"prompt": " ".join(words)}) + "\n")
    policy, other = (_train_policy(rng, steps) for steps in (60, 40))
    reward = _train_reward(policy, rng)
    for folder, model in (("sft", policy), ("other", other), ("reward", reward)):
        model.save_pretrained(root / folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (root / folder / name).write_bytes((root / "base" / name).read_bytes())
    return root


def start_config(**changes: Any) -> dict[str, Any]:
    """Return our configuration of PPO from this start; `changes` as for `training_config`."""
    existing = {
        "sft": {"from": {"path": "sft"}},
        "rewardModel": {"from": {"path": "reward"}},
        "data": {"heldOut": {"fraction": 0.05}},
    }
    return training_config(**existing, **changes)


def make_prompts(count: int) -> list[list[int]]:
    """Return prompts of 1 to 5 neutral words after BOS."""
    rng = np.random.default_rng(2)
    words = np.arange(FIRST_NEUTRAL, WORDS)
    return [[BOS, *rng.choice(words, rng.integers(1, 6)).tolist()] for _ in range(count)]


def _sentences(
    rng: np.random.Generator, rows: int, among: np.ndarray | None = None
) -> torch.Tensor:
    """Return rows of BOS, 5 to 12 words, EOS, padding."""
    tokens = np.full((rows, 14), PAD)
    words = np.arange(FIRST_PLEASANT, WORDS) if among is None else among
    for row in tokens:
        length = int(rng.integers(5, 13))
        row[: length + 2] = [BOS, *rng.choice(words, length), EOS]
    return torch.from_numpy(tokens)


def _config(**settings: Any) -> PhiConfig:
    return PhiConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        **settings,
    )


def _train_policy(rng: np.random.Generator, steps: int) -> PhiForCausalLM:
    torch.manual_seed(1)
    policy = PhiForCausalLM(_config())
    with torch.no_grad():
        policy.lm_head.bias[PAD] = NEVER
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3)
    for _ in range(steps):
        tokens = _sentences(rng, 32)
        logits = policy(input_ids=tokens).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


def _train_reward(policy: PhiForCausalLM, rng: np.random.Generator) -> PhiForSequenceClassification:
    """Return a reward model whose scores of sentences have unit spread."""
    reward = PhiForSequenceClassification(_config(num_labels=1))
    reward.model.load_state_dict(policy.model.state_dict())
    optimizer = torch.optim.Adam(reward.parameters(), 2e-3)
    kinds = [
        np.r_[first : first + 5, FIRST_NEUTRAL:WORDS]
        for first in (FIRST_PLEASANT, FIRST_UNPLEASANT)
    ]
    for _ in range(60):
        good, bad = (reward(input_ids=_sentences(rng, 16, kind)).logits for kind in kinds)
        loss = -logsigmoid(good - bad).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        reward.score.weight /= reward(input_ids=_sentences(rng, 256)).logits.std()
    return reward.eval()
