"""Losses and gradients of TRL's SFT and reward trainers: `python trl_losses.py TASK.json`.

The trainers of the newest TRL get the task's token rows as a data set; what their own collator
makes of it goes through their `compute_loss`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

SETTINGS = {"output_dir": "trl-output", "use_cpu": True, "bf16": False, "report_to": "none"}


def loss_of(trainer: Trainer) -> dict[str, Any]:
    """Return the loss of the whole data set in one batch, and its gradient."""
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    named = trainer.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    return {"loss": loss.detach(), "gradients": gradients}


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(task["sft"])
    rows = task["demonstrations"]
    sft = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(task["sft"]),
        args=SFTConfig(
            **SETTINGS, per_device_train_batch_size=len(rows), completion_only_loss=True
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
    )
    pairs = task["comparisons"]
    reward = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(task["reward"], num_labels=1),
        args=RewardConfig(**SETTINGS, per_device_train_batch_size=len(pairs)),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(pairs),
    )
    torch.save({"sft": loss_of(sft), "reward": loss_of(reward)}, task["found"])


if __name__ == "__main__":
    main()
