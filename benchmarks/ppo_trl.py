"""TRL's PPO, step by step, from the same start: stages, CPU and wall seconds, peak memory.

It runs in TRL's environment, where the packages of this project need not be. TRL's own trainer
takes the steps; its functions are wrapped to be timed. What it has generated is overwritten with
tokens that end where the start says: TRL decodes every row to the longest response, so that what is
in them costs nothing. What no wrapped function takes (log-probabilities, advantages, all updates)
counts as update.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped] # it has none
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from ppo_start import (
    CASES,
    EOS,
    FIRST_WORD,
    KL_COEFFICIENT,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    LORA_TARGETS,
    TOLD,
    Case,
)
from stopwatch import EnoughError, Pace, Stopwatch
from trl_steps import Timed


def measure_stages(watch: Stopwatch, lengths: Sequence[int]) -> Callable[[PPOTrainer], None]:
    """Wrap TRL's functions; return what tells them, later, which model is the reward model."""
    generate, forward = ppo_trainer.batch_generation, ppo_trainer.forward
    get_reward = ppo_trainer.get_reward
    reward_models: list[object] = []

    def generate_timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - TRL's
        with watch.stage("rollout"):
            tokens, logits = generate(*args, **kwargs)
        end_at(tokens, lengths, logits.shape[1])
        return tokens, logits

    def forward_timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - TRL's
        if torch.is_grad_enabled():
            return forward(*args, **kwargs)
        with watch.stage("reference"):
            return forward(*args, **kwargs)

    def get_reward_timed(model: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - TRL's
        with watch.stage("score" if model in reward_models else "value"):
            return get_reward(model, *args, **kwargs)

    ppo_trainer.batch_generation, ppo_trainer.forward = generate_timed, forward_timed
    ppo_trainer.get_reward = get_reward_timed
    return lambda trainer: reward_models.append(trainer.reward_model)


def end_at(tokens: torch.Tensor, lengths: Sequence[int], width: int) -> None:
    """Give the responses, the last `width` columns, these lengths; write into `tokens`."""
    if width != max(lengths):
        msg = f"{width} tokens were decoded, not {max(lengths)}"
        raise RuntimeError(msg)
    responses = tokens[:, -width:]
    responses.clamp_(min=FIRST_WORD)
    for row, length in enumerate(lengths):
        if length < width:
            responses[row, length - 1] = EOS


def settings_of(case: Case, start: Path) -> PPOConfig:
    """Return TRL's settings of a case: one micro-batch of all rows, its fastest: see README."""
    return PPOConfig(
        output_dir=str(start / "trl-output"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        num_sample_generations=0,
        per_device_train_batch_size=case.prompts,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=case.epochs,
        total_episodes=1_000_000 * case.prompts,
        local_rollout_forward_batch_size=case.prompts,
        response_length=case.response_tokens,
        stop_token="eos",  # noqa: S106 - no secret
        temperature=1.0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        kl_coef=KL_COEFFICIENT,
        # Ours as they are by default: TRL's are those of transformers.
        adam_beta2=0.95,
        adam_epsilon=1e-5,
    )


def trainer_of(case: Case, start: Path, prompts: list[list[int]], timed: Timed) -> PPOTrainer:
    """Return TRL's trainer of a case."""
    tokenizer = AutoTokenizer.from_pretrained(start / "sft", padding_side="left")

    def classifier() -> Any:  # noqa: ANN401 - whatever class the files name
        return AutoModelForSequenceClassification.from_pretrained(start / "reward", num_labels=1)

    value, adapters = classifier(), None
    with torch.no_grad():
        value.score.weight.zero_()  # as our critic starts
    if case.lora:
        adapters = LoraConfig(
            r=LORA_RANK,
            lora_alpha=LORA_ALPHA,
            target_modules=LORA_TARGETS,
            task_type="CAUSAL_LM",
        )
        # TRL adapts the policy only; ours adapts the critic, too.
        inject_adapter_in_model(adapters, value)
        for name, parameter in value.named_parameters():
            parameter.requires_grad_("lora_" in name or name.startswith("score"))
    return PPOTrainer(
        args=settings_of(case, start),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(start / "sft"),
        ref_model=None if case.lora else AutoModelForCausalLM.from_pretrained(start / "sft"),
        reward_model=classifier(),
        value_model=value,
        train_dataset=Dataset.from_list([{"input_ids": prompt} for prompt in prompts]),
        callbacks=[timed],
        peft_config=adapters,
    )


def main(argv: Sequence[str]) -> None:
    """Take steps as they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    watch = Stopwatch()
    timed = Timed(Pace(arguments.steps, paced=arguments.paced), watch)
    tell_reward_model = measure_stages(watch, told["responseLengths"])
    trainer = trainer_of(CASES[arguments.case], arguments.start, told["prompts"], timed)
    tell_reward_model(trainer)
    with suppress(EnoughError):
        trainer.train()


if __name__ == "__main__":
    main(sys.argv[1:])
