"""Bytes of weights, gradients and optimiser states on one GPU, as DeepSpeed holds them.

All gradients of a step are whole until its one reduction, whatever the stage: see
`engine.training_engine`. The optimiser is torch's AdamW, its moments float32 under ZeRO.
"""

from dataclasses import dataclass
from typing import Any

from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.planning.activations import FLOAT32

NO_ZERO, SHARDED_GRADIENTS, SHARDED_PARAMETERS = 0, 2, 3

DEFAULT_BUCKET = 500_000_000
"""Elements of DeepSpeed's `reduce_bucket_size`."""

DEFAULT_LIVE = 1_000_000_000
"""Elements of DeepSpeed's `stage3_max_live_parameters`, and of its distance of re-use."""

DEFAULT_PERSISTENT = 100_000
"""Elements of DeepSpeed's `stage3_param_persistence_threshold`: smaller parameters stay whole."""

MOMENTS = 2


@dataclass(frozen=True)
class Sharding:
    """How the states of trained networks are spread over ranks."""

    stage: int
    ranks: int
    offload: bool
    width: int
    """Bytes of a weight."""
    bucket: int
    """Most elements that are reduced at once."""
    live: int
    """Most elements that are gathered at once in training."""
    persistent: int
    """Elements up to which a parameter stays whole on every rank."""
    is_gpu: bool

    @classmethod
    def of(cls, config: DeepSpeedConfig, *, ranks: int, width: int, is_gpu: bool) -> "Sharding":
        """Return what the configuration means; bfloat16 is never trained below stage 2.

        Overrides of `zero_optimization` are laid over what we say there, as `engine` does.
        """
        zero: Any = config.overrides.get("zero_optimization", {})
        stage = config.zero_stage
        if stage == NO_ZERO and width < FLOAT32:
            stage = SHARDED_GRADIENTS
        ours = {"device": "cpu"} if config.offload_optimizer else {}
        offloaded = zero.get("offload_optimizer", ours) or {}
        return cls(
            stage=stage,
            ranks=ranks,
            offload=offloaded.get("device", "none") != "none",
            width=width,
            bucket=int(zero.get("reduce_bucket_size", DEFAULT_BUCKET)),
            live=int(zero.get("stage3_max_live_parameters", DEFAULT_LIVE)),
            persistent=int(zero.get("stage3_param_persistence_threshold", DEFAULT_PERSISTENT)),
            is_gpu=is_gpu,
        )

    def share(self, elements: float) -> float:
        """Return the part of sharded elements that one rank has."""
        return elements / self.ranks if self.stage else elements

    def weights(self, parameters: int, small: int) -> float:
        """Return a trained network's weights at rest; small parameters are whole, too."""
        if self.stage < SHARDED_PARAMETERS:
            return self.width * parameters
        return self.width * (parameters / self.ranks + small)

    def optimizer(self, trained: int) -> float:
        """Return moments, and under ZeRO the float32 copies that they move."""
        copies = 1 if self.stage else 0
        return FLOAT32 * (MOMENTS + copies) * self.share(trained)

    def kept_gradients(self, trained: int) -> float:
        """Return what ZeRO 3 keeps for gradients from step to step."""
        return self.width * self.share(trained) if self.stage == SHARDED_PARAMETERS else 0

    def kept_bucket(self, trained: int) -> float:
        """Return the buffer that ZeRO 3 keeps for reductions."""
        return self._bucket(trained) if self.stage == SHARDED_PARAMETERS else 0

    def reduction_gradients(self, trained: int) -> float:
        """Return what is there besides the whole gradients when they are reduced."""
        return self.width * self.share(trained) if self.stage == SHARDED_GRADIENTS else 0

    def reduction_bucket(self, trained: int) -> float:
        """Return the buffers of a reduction."""
        if self.stage == SHARDED_GRADIENTS:
            return self._bucket(trained)
        if self.stage == NO_ZERO and self.ranks == 1:
            return 0
        return self.width * min(self.bucket, trained)

    def step_gradients(self, trained: int) -> float:
        """Return the gradients that the optimiser reads."""
        if self.stage == NO_ZERO:
            return self.width * trained
        return FLOAT32 * self.share(trained)

    def step_buffers(self, trained: int) -> float:
        """Return what the step computes with, besides the gradients that it reads.

        On GPUs AdamW computes with all parameters at once, on CPUs with one number after another;
        there what is most is ZeRO's flat copy of gradients in bfloat16, before they are float32.
        """
        if self.offload:
            return 0
        if self.is_gpu:
            return FLOAT32 * self.share(trained)
        return self.width * self.share(trained) if self.stage and self.width < FLOAT32 else 0

    def packed(self, linear: int) -> float:
        """Return linear weights' second copy while a CPU decodes or measures with them."""
        return 0 if self.is_gpu else self.width * linear

    def offloaded(self, trained: int) -> float:
        """Return what lies in the host's memory: states, and the gradients that the step reads."""
        if not self.offload:
            return 0
        return self.optimizer(trained) + self.step_gradients(trained) + self.kept_gradients(trained)

    @property
    def is_gathered(self) -> bool:
        """Whether weights of trained networks are whole only while they compute."""
        return self.stage >= SHARDED_PARAMETERS

    def gathered(self, parameters: int, small: int) -> float:
        """Return weights that are whole while a network computes under ZeRO 3, at most."""
        return min(self.whole(parameters, small), self.width * self.live)

    def whole(self, parameters: int, small: int) -> float:
        """Return what gathering all weights of a network adds; one rank has them already."""
        if self.stage < SHARDED_PARAMETERS or self.ranks == 1:
            return 0
        return self.width * (parameters - small)

    def _bucket(self, trained: int) -> float:
        # Elsewhere than on a GPU, what is never written is never there.
        return self.width * (self.bucket if self.is_gpu else min(self.bucket, trained))
