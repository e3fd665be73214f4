"""The model every piece of configuration derives from.

YAML is camelCase and Python is snake_case, by one alias generator. The docstring under a field is
its documentation everywhere: in the CRD, in `kubectl explain` and in the reference.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

RelativePath = Annotated[str, Field(min_length=1, max_length=1024)]
"""A path below the data root, or an absolute one in the trainer's file system."""

Probability = Annotated[float, Field(ge=0, le=1)]


class ConfigModel(BaseModel):
    """A frozen, camelCase-aliased model that refuses unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Join the wrapped lines of a field's docstring: its readers wrap for themselves."""
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.__pydantic_fields__.values():
            field.description = " ".join((field.description or "").split())
        # The JSON schema has taken its copy of the descriptions already.
        cls.model_rebuild(force=True)


class LearningRateSchedule(StrEnum):
    """How the learning rate moves after its warm-up."""

    CONSTANT = "Constant"
    """Stays at `learningRate`: InstructGPT's PPO (appendix C.4, arXiv:2203.02155)."""
    COSINE = "Cosine"
    """Falls to `finalLearningRateFraction` along half a cosine: InstructGPT's other phases."""


class OptimizerConfig(ConfigModel):
    """What the optimisers of all phases have in common: AdamW with warm-up, decay and clipping."""

    schedule: LearningRateSchedule = LearningRateSchedule.COSINE
    """Shape of the learning rate after warm-up.

    Default: cosine, InstructGPT appendix C.1 and C.2.
    """

    final_learning_rate_fraction: Probability = 0.1
    """Learning rate at the end of a cosine, as a fraction of `learningRate`.

    Default: InstructGPT, appendix C.1.
    """

    warmup_steps: int = Field(default=10, ge=0, le=100_000)
    """Updates over which the learning rate rises linearly from zero.

    Default: InstructGPT's PPO, appendix C.4.
    """

    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay (AdamW, arXiv:1711.05101) of matrices; vectors and biases have none.

    Default: none.
    """

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's first moment. Default: arXiv:2203.02155, appendix C."""

    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Adam's second moment. Default: arXiv:2203.02155, appendix C."""

    adam_epsilon: float = Field(default=1e-5, gt=0, le=1)
    """Added to Adam's denominator.

    Default: OpenAI's 2019 code, "The N implementation details of RLHF with PPO".
    """

    maximum_gradient_norm: float = Field(default=1.0, gt=0, le=1e6)
    """Global gradient norm above which a step is scaled down. Default: the field's usual 1.0."""

    tokens_per_micro_batch: int = Field(default=4096, ge=16, le=4_194_304)
    """Tokens, padding included, in one forward and backward pass on one rank; memory
    depends on it, and results do not (in bfloat16 a little).

    Default: updates of a 7B model in bf16 with gradient checkpointing fit 80 GB. Rollouts of PPO,
    which hold more beside it, may need fewer; `rlhf plan` says.
    """

    packing: bool | None = None
    """Put several sequences in one row, kept apart by their positions: no padding is computed.

    With SDPA only attention itself computes padding then, and little. On an H200 with
    FlashAttention 2 (1 B parameters, 128 to 1,024 tokens) packing was within 12 % of padding
    either way, as micro-batches are sorted by length. True refuses models whose architecture does
    not keep the sequences apart; false pads.

    Default: on a CPU, with models that keep them apart; off on a GPU, where SDPA has not been
    measured since it packs this way (the name is that of TRL's SFTConfig).
    """
