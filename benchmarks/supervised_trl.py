"""TRL's SFT or reward model training, step by step, from the same weights and tokens as ours.

It runs in TRL's environment, where the packages of this project need not be.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped] # it has none
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
)
from transformers.utils import logging as transformers_logging
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from ppo_start import CASES, LEARNING_RATE, TOLD
from stopwatch import EnoughError, Pace, Stopwatch
from trl_steps import Timed


def trainer_of(phase: str, batch: int, start: Path, told: dict[str, Any], timed: Timed) -> Trainer:
    """Return TRL's trainer: one batch is all rows."""
    common: dict[str, Any] = {
        "output_dir": str(start / "trl-output"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "per_device_train_batch_size": batch,
        "max_steps": 1_000_000,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        # Ours as they are by default: TRL's are those of transformers.
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-5,
    }
    tokenizer = AutoTokenizer.from_pretrained(start / "sft")
    trainer: Trainer
    if phase == "sft":
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(start / "sft"),
            args=SFTConfig(**common, completion_only_loss=True),
            train_dataset=Dataset.from_list(told["demonstrations"]),
            processing_class=tokenizer,
            callbacks=[timed],
        )
        return trainer
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(start / "sft", num_labels=1),
        args=RewardConfig(**common, weight_decay=0.1),
        train_dataset=Dataset.from_list(told["comparisons"]),
        processing_class=tokenizer,
        callbacks=[timed],
    )
    return trainer


def main(argv: Sequence[str]) -> None:
    """Take steps as they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", choices=("sft", "reward-model"), required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--paced", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    told = json.loads((arguments.start / TOLD).read_text(encoding="utf-8"))
    timed = Timed(Pace(arguments.steps, paced=arguments.paced), Stopwatch())
    batch = CASES[arguments.case].prompts
    trainer = trainer_of(arguments.phase, batch, arguments.start, told, timed)
    with suppress(EnoughError):
        trainer.train()


if __name__ == "__main__":
    main(sys.argv[1:])
