"""Hyper-parameters of supervised fine-tuning."""

from pydantic import Field

from rlhf_trainer.config.base import ConfigModel, OptimizerConfig, RelativePath


class ModelFrom(ConfigModel):
    """An existing model that takes the place of a phase."""

    path: RelativePath
    """Folder of the model, below the data root. Required."""


class SFTConfig(OptimizerConfig):
    """Cross-entropy on the response tokens of demonstrations (InstructGPT, section 3.5)."""

    from_: ModelFrom | None = Field(default=None, alias="from")
    """Existing SFT model: the phase is skipped. Default: train one."""

    epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the demonstrations.

    Default: 1, after which InstructGPT's validation loss rose (section 3.5).
    """

    maximum_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Updates after which the phase ends even within an epoch. Default: no limit but `epochs`."""

    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Demonstrations per update, over all ranks. Default: InstructGPT's SFT, appendix C.1."""

    learning_rate: float = Field(default=9.65e-6, gt=0, le=10)
    """Largest learning rate.

    Default: InstructGPT's 1.3B and 6B SFT models, appendix C.1, which is for full fine-tuning;
    with `model.lora` about ten times as much is usual, such as 2e-4.
    """

    maximum_tokens: int = Field(default=1024, ge=8, le=131_072)
    """Longest demonstration, in tokens; a longer one loses its end.

    Default: OpenAI's context for TL;DR.
    """

    validate_every_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Updates between measurements of the validation loss. Default: 50, several per epoch
    of ten thousand demonstrations."""
