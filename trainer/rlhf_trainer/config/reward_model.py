"""Hyper-parameters of the reward model."""

from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel, OptimizerConfig, Probability
from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.config.sft import ModelFrom


class EarlyStoppingConfig(ConfigModel):
    """When to stop before the last step; the best weights are kept either way."""

    validate_every_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Updates between measurements of validation accuracy. Default: 50, several per
    epoch of ten thousand comparisons."""

    patience: int = Field(default=3, ge=1, le=1000)
    """Measurements without a new best accuracy after which training stops.

    Default: 3, so that one noisy measurement ends nothing.
    """


class RewardModelConfig(OptimizerConfig):
    """Bradley-Terry on comparisons (InstructGPT, equation 1)."""

    from_: ModelFrom | None = Field(default=None, alias="from")
    """Existing reward model: the phase is skipped. It is a sequence classifier of transformers with
    one label and safetensors weights; one with another tokenizer than the policy's is given text,
    with its own chat template, and the critic then starts from the SFT model.

    Default: train one.
    """

    model: ModelConfig | None = None
    """Model to start from; it must share the policy's tokenizer. With `from` it says how that model
    is held, and its `source` is the same folder.

    Default: the SFT model.
    """

    epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the comparisons. Default: 1, more overfit (InstructGPT, appendix C.2)."""

    maximum_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Updates after which the phase ends even within an epoch. Default: no limit but `epochs`."""

    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Comparisons per update, over all ranks. Default: InstructGPT, appendix C.2."""

    learning_rate: float = Field(default=9e-6, gt=0, le=10)
    """Largest learning rate.

    Default: InstructGPT's 6B reward model, appendix C.2, which is for full fine-tuning; with LoRA
    about ten times as much is usual, such as 1e-4.
    """

    weight_decay: float = Field(default=0.1, ge=0, le=1)
    """Decoupled weight decay of matrices. Default: 0.1, GPT-3 (arXiv:2005.14165, appendix B)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a feature of the last hidden state is dropped in training.

    Default: 0, as TRL's reward trainer.
    """

    maximum_tokens: int = Field(default=1024, ge=8, le=131_072)
    """Longest prompt and response, in tokens; a longer pair is left out and counted.

    Default: OpenAI's context for TL;DR.
    """

    minimum_accuracy: Probability = 0.6
    """Gate: smallest validation accuracy to start PPO with (exit 11 below it).

    Default: 0.6, between chance and InstructGPT's 0.72.
    """

    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When to stop before the last step. Default: after 3 measurements without a new best."""

    @model_validator(mode="after")
    def existing_model_has_one_name(self) -> Self:
        """Beside `from`, `model` says how that model is held; another one would not be read."""
        if self.from_ is None or self.model is None or self.model.source == self.from_.path:
            return self
        msg = (
            f"model.source={self.model.source}: not read, since from.path={self.from_.path} is the "
            "reward model; write the same in both, or remove one of the two"
        )
        raise ValueError(msg)
