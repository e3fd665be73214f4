"""Sound data and small models, for tests of Preparation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from typing_extensions import override

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Workspace
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.phases import preparation
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.telemetry.telemetry import SilentTelemetry

WORDS = ("the", "movie", "was", "good", "bad", "fine", *map(str, range(60)))
SPECIAL = ("<pad>", "<bos>", "<eos>")
Rows = list[dict[str, Any]]
Prepare = Callable[..., PhaseContext]


class Recording(SilentTelemetry):
    """Notes progress and heartbeats."""

    def __init__(self) -> None:
        self.activities: list[tuple[int, int, str]] = []
        self.beats = 0

    @override
    def progress(self, step: int, total_steps: int, text: str) -> None:
        self.activities.append((step, total_steps, text))

    @override
    def heartbeat(self) -> None:
        self.beats += 1


def write(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def make_model(
    folder: Path, *, words: tuple[str, ...] = WORDS, positions: int = 64, labels: int | None = None
) -> None:
    """Write a tokenizer and a language model, or with labels a classifier."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary) + 1,
        max_position_embeddings=positions,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_labels=labels or 2,
    )
    kind = LlamaForCausalLM if labels is None else LlamaForSequenceClassification
    kind(config).save_pretrained(folder)


def annotated(number: int, *choices: str) -> dict[str, Any]:
    return {
        "prompt": f"the movie {number}",
        "chosen": "was good",
        "rejected": "was bad",
        "annotations": [
            {"annotator": f"r{i}", "choice": choice} for i, choice in enumerate(choices)
        ],
    }


def prepare_in(tmp_path: Path) -> Prepare:
    """Return a function that lays out sound data and returns the context of a Preparation on it."""
    data_root = tmp_path / "data"
    make_model(data_root / "base")
    numbers = range(60)
    write(data_root / "d.jsonl", [{"text": f"the movie was fine {n}"} for n in numbers])
    write(data_root / "c.jsonl", [annotated(n, "chosen", "chosen", "chosen") for n in numbers])
    write(data_root / "p.jsonl", [{"prompt": f"the movie {n}"} for n in numbers])

    def context(**changes: object) -> PhaseContext:
        document: dict[str, Any] = {
            "model": {"source": "base"},
            "data": {
                "demonstrations": {"path": "d.jsonl"},
                "comparisons": {"path": "c.jsonl", "minimumAgreement": {"atLeast": 0.8}},
                "prompts": {"path": "p.jsonl"},
                "heldOut": {"fraction": 0.2},
            },
            "ppo": {"maximumResponseTokens": 8},
            "evaluation": {"promptCount": 4},
        }
        document.update(changes)
        return PhaseContext(
            config=TrainingConfig.model_validate(document),
            workspace=Workspace(tmp_path / "workspace"),
            data_root=data_root,
            phase=Phase.PREPARATION,
            iteration=1,
            attempt=1,
            telemetry=Recording(),
        )

    return context


def refused(context: PhaseContext) -> str:
    with pytest.raises(InvalidError) as caught:
        preparation.run(context)
    assert not context.paths.data.exists()
    return caught.value.message
