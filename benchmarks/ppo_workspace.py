"""Random models as files, and a workspace that our phases can begin in."""

import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from ppo_start import BOS, EOS, FIRST_WORD, PAD, Case, start_config
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Outcome, Phase, Result, Workspace
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.telemetry.telemetry import SilentTelemetry, Telemetry

WORKSPACE = "workspace"
SPECIAL = {EOS: "<eos>", PAD: "<pad>", BOS: "<bos>"}


def write_models(case: Case, folder: Path) -> None:
    """Write `sft` and `reward`, of one shape, with a tokenizer whose words are `w3`, `w4`, ..."""
    words = {f"w{token}": token for token in range(FIRST_WORD, case.vocabulary)}
    vocabulary = {text: token for token, text in SPECIAL.items()} | words
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=f"w{FIRST_WORD}"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[EOS],
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
    )
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=case.intermediate,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        num_key_value_heads=case.heads,
        max_position_embeddings=512,
        eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=BOS,
        tie_word_embeddings=False,
        num_labels=1,  # type: ignore[call-arg] # what every configuration takes
    )
    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    for name, kind in (("sft", LlamaForCausalLM), ("reward", LlamaForSequenceClassification)):
        kind(config).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)


def context_of(
    start: Path, phase: Phase, config: dict[str, Any], telemetry: Telemetry, attempt: int = 1
) -> PhaseContext:
    """Return what a phase is given in the workspace of a start, its attempt's folder made."""
    context = PhaseContext(
        config=TrainingConfig.model_validate(config),
        workspace=Workspace(start / WORKSPACE),
        data_root=start,
        phase=phase,
        iteration=1,
        attempt=attempt,
        telemetry=telemetry,
    )
    context.paths.root.mkdir(parents=True, exist_ok=True)
    return context


def prepare(start: Path) -> dict[str, list[dict[str, list[int]]]]:
    """Run Preparation, and leave the result that the phases after it look for.

    Returns its tokens as TRL takes them.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or a library looks for an accelerator aloud
    from rlhf_trainer.phases import preparation  # noqa: PLC0415 - it is not needed to train

    context = context_of(start, Phase.PREPARATION, start_config(), SilentTelemetry())
    report = preparation.run(context)
    result = Result(phase=Phase.PREPARATION, outcome=Outcome.COMPLETED, message=report.message)
    context.paths.result.write_text(result.to_json(), encoding="utf-8")
    prepared = context.prepared()
    demonstrations, pairs = prepared.demonstrations(), prepared.pairs()
    return {
        "demonstrations": [
            {
                "input_ids": item.tokens.tolist(),
                "completion_mask": item.response_mask.astype(int).tolist(),
            }
            for item in map(demonstrations.__getitem__, range(len(demonstrations)))
        ],
        "comparisons": [
            {"chosen_ids": pair.chosen.tolist(), "rejected_ids": pair.rejected.tolist()}
            for pair in map(pairs.__getitem__, range(len(pairs)))
        ],
    }
