"""A run small enough for tests: made-up words, a random model of a few thousand parameters.

People prefer sentences with pleasant words, so that a reward model and PPO have something to learn.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

PLEASANT = ("good", "kind", "warm", "clear", "fine")
UNPLEASANT = ("bad", "cold", "dull", "vague", "poor")
NEUTRAL = ("the", "day", "tree", "road", "house", "river", "and", "near", "a", "was")
SPECIAL = ("<pad>", "<bos>", "<eos>")
VOCABULARY = {
    word: index for index, word in enumerate((*SPECIAL, *PLEASANT, *UNPLEASANT, *NEUTRAL))
}
NUM_DEMONSTRATIONS, NUM_COMPARISONS, NUM_PROMPTS = 96, 128, 48
RATERS = ("r1", "r2", "r3")


def make_run(root: Path) -> Path:
    """Fill `root` with a base model and data sets; return it."""
    rng = np.random.default_rng(0)
    _make_model(root / "base")
    _make_model(root / "wide", hidden_size=48)
    _write(root / "demonstrations.jsonl", [_demonstration(rng) for _ in range(NUM_DEMONSTRATIONS)])
    _write(root / "comparisons.jsonl", [_comparison(rng) for _ in range(NUM_COMPARISONS)])
    _write(root / "prompts.jsonl", [{"prompt": _words(rng, 2)} for _ in range(NUM_PROMPTS)])
    return root


MEMORY_HOG: dict[str, Any] = {
    "model": {"source": "large"},
    "data": {"demonstrations": {"path": "long.jsonl"}},
    "sft": {"batchSize": 512, "tokensPerMicroBatch": 4_194_304},
}
"""Changes by which SFT wants more than 4 GiB at once: see `make_memory_hog`."""


def make_memory_hog(root: Path) -> None:
    """Add to a run a model and demonstrations that need much memory."""
    _make_model(root / "large", hidden_size=512, intermediate_size=4096, positions=512)
    rng = np.random.default_rng(0)
    rows = [{"text": _words(rng, 400, ("the", "day", "tree"))} for _ in range(700)]
    _write(root / "long.jsonl", rows)


def training_config(**changes: Any) -> dict[str, Any]:
    """Return the trainer's configuration as JSON; `changes` are merged in, nested by section."""
    config: dict[str, Any] = {
        "model": {"source": "base"},
        "data": {
            "demonstrations": {"path": "demonstrations.jsonl"},
            "comparisons": {"path": "comparisons.jsonl"},
            "prompts": {"path": "prompts.jsonl"},
            "heldOut": {"fraction": 0.25},
        },
        "sft": {"maximumSteps": 4, "batchSize": 16, "learningRate": 3e-3, "warmupSteps": 0},
        "rewardModel": {
            "maximumSteps": 12,
            "batchSize": 24,
            "learningRate": 1e-2,
            "warmupSteps": 0,
            "minimumAccuracy": 0.0,
            "earlyStopping": {"validateEverySteps": 4},
        },
        "ppo": {
            "totalEpisodes": 32,
            "rolloutBatchSize": 16,
            "minibatchSize": 8,
            "learningRate": 1e-3,
            "warmupSteps": 0,
            "maximumResponseTokens": 8,
            "kl": {"targetNats": 4, "horizonEpisodes": 100},
        },
        "evaluation": {"promptCount": 4, "sampleCount": 2},
        "checkpoint": {"everySteps": 1},
    }
    return merge(config, changes)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = merge(old, value) if both else value
    return merged


def _make_model(
    folder: Path, hidden_size: int = 32, intermediate_size: int = 64, positions: int = 64
) -> None:
    save_base(
        folder,
        LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
    )


def save_base(folder: Path, config: PreTrainedConfig) -> None:
    """Write a random causal language model of `config`, and a tokenizer of the toy's words."""
    tokenizer = Tokenizer(models.WordLevel(dict(VOCABULARY), unk_token="the"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def _words(rng: np.random.Generator, count: int, among: tuple[str, ...] = NEUTRAL) -> str:
    return " ".join(rng.choice(among, count))


def _demonstration(rng: np.random.Generator) -> dict[str, Any]:
    among = (*NEUTRAL, *PLEASANT, *UNPLEASANT)
    return {"prompt": _words(rng, 2), "completion": _words(rng, int(rng.integers(2, 7)), among)}


def _comparison(rng: np.random.Generator) -> dict[str, Any]:
    def response(among: tuple[str, ...]) -> str:
        return f"{_words(rng, 2)} {_words(rng, int(rng.integers(2, 5)), among)}"

    choices = rng.choice(["chosen", "rejected", "tie"], len(RATERS), p=[0.8, 0.1, 0.1])
    return {
        "prompt": _words(rng, 2),
        "chosen": response(PLEASANT),
        "rejected": response(UNPLEASANT),
        "annotations": [
            {"annotator": rater, "choice": str(choice)}
            for rater, choice in zip(RATERS, choices, strict=True)
        ],
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
