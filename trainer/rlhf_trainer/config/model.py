"""Which pretrained model is trained, and how it is held in memory."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from rlhf_trainer.config.base import ConfigModel


class DType(StrEnum):
    """Number format of weights and activations."""

    AUTO = "Auto"
    BFLOAT16 = "BFloat16"
    FLOAT32 = "Float32"


class Device(StrEnum):
    """Where a phase computes."""

    AUTO = "Auto"
    CUDA = "CUDA"
    CPU = "CPU"


class Attention(StrEnum):
    """Implementation of scaled dot-product attention."""

    AUTO = "Auto"
    FLASH_ATTENTION_2 = "FlashAttention2"
    SDPA = "SDPA"


class LoRAConfig(ConfigModel):
    """Train low-rank adapters and leave the model's own weights as they are (arXiv:2106.09685)."""

    rank: int = Field(default=16, ge=1, le=4096)
    """Columns of an adapter's first matrix.

    Default: 16, between LoRA's 4 to 8 for GPT-3 (arXiv:2106.09685, table 6) and QLoRA's 64
    (arXiv:2305.14314).
    """

    alpha: float = Field(default=32.0, gt=0, le=65_536)
    """An adapter's output is multiplied by alpha / rank. Default: 32, so that the factor is 2."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which an adapter's input is dropped in SFT and in the reward model's
    training; PPO drops nothing.

    Default: 0; QLoRA (arXiv:2305.14314) uses 0.05 for its larger models.
    """

    target_modules: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
            Field(min_length=1, max_length=64),
        ]
        | None
    ) = None
    """Names, or ends of names, of the linear layers that get an adapter.

    Default: all but the output layer, which QLoRA (arXiv:2305.14314, section 4) needed to match
    full fine-tuning.
    """


class ModelConfig(ConfigModel):
    """A causal language model in the format of transformers."""

    source: str = Field(min_length=1, max_length=1024)
    """Folder below the data root, or hub id, of the pretrained model. Required."""

    revision: str | None = Field(default=None, min_length=1, max_length=256)
    """Branch, tag or commit on the hub.

    Default: the hub's main branch; pin a commit to repeat a run.
    """

    dtype: DType = DType.AUTO
    """Number format for training.

    Default Auto: BFloat16 on GPU (as InstructGPT's fp16, with more range), Float32 on CPU.
    """

    device: Device = Device.AUTO
    """Where to train.

    Default Auto: CUDA if a driver answers, else CPU. CUDA without a driver is refused (exit 20).
    """

    attention: Attention = Attention.AUTO
    """Attention kernel.

    Default Auto: FlashAttention 2 (arXiv:2307.08691) where the package is installed, the GPU is an
    Ampere or newer, weights are BFloat16 and the architecture has it; else PyTorch's SDPA. SDPA is
    as fast without `packing` (measured on an H200).
    """

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more computation for much less
    memory (arXiv:1604.06174).

    Default: off.
    """

    lora: LoRAConfig | None = None
    """Train adapters on one copy of the model, which policy, reference, critic and reward model
    share. Where `sft.from` is an adapter, these are its sizes.

    Set the learning rates, too: their defaults are those of full fine-tuning, and adapters usually
    want about ten times as much (2e-4 for GPT-3, arXiv:2106.09685; 2e-4 for 7B and 13B, 1e-4 for
    33B and 65B, arXiv:2305.14314). Default: full fine-tuning, as InstructGPT.
    """

    trust_remote_code: bool = False
    """Run Python code that comes with the model.

    Default: false, as in transformers; such code can do anything the pod can.
    """
