"""Runs PPO with TRL's own trainer: `python trl_ppo.py TASK.json`, with TRL 1.12 on the path.

The task names models, prompts and hyper-parameters; what the trainer logs goes to `curves`. With
`record` the trainer's calls of its own functions are kept as they are made, inputs and outputs.
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
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Logged(TrainerCallback):
    """Keeps what the trainer logs after each step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.rows.append(dict(logs))


def trainer_of(task: dict[str, Any], logged: Logged) -> PPOTrainer:
    """Return TRL's trainer of a task: its critic is the reward model with a head as it says."""
    tokenizer = AutoTokenizer.from_pretrained(task["sft"], padding_side="left")

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(task["reward"], num_labels=1)

    value = classifier()
    with torch.no_grad():
        value.score.weight *= task["valueHeadScale"]
    return PPOTrainer(
        args=PPOConfig(
            output_dir="trl-output",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
            num_sample_generations=0,
            lr_scheduler_type="constant",
            **task["settings"],
        ),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(task["sft"]),
        ref_model=AutoModelForCausalLM.from_pretrained(task["reference"]),
        reward_model=classifier(),
        value_model=value,
        train_dataset=Dataset.from_list([{"input_ids": row} for row in task["prompts"]]),
        callbacks=[logged],
    )


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    curves = {}
    for seed in task["seeds"]:
        logged = Logged()
        trainer_of(task | {"settings": task["settings"] | {"seed": seed}}, logged).train()
        curves[seed] = logged.rows
    Path(task["curves"]).write_text(json.dumps(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
