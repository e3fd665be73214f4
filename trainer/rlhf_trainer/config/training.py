"""The whole of what a phase needs to know: the training half of an RLHFRun, plus its guard."""

from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel
from rlhf_trainer.config.data import DataConfig
from rlhf_trainer.config.deepspeed import CheckpointConfig, DeepSpeedConfig
from rlhf_trainer.config.evaluation import EvaluationConfig
from rlhf_trainer.config.guard import GuardConfig
from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.config.ppo import KLController, PPOConfig
from rlhf_trainer.config.reward_model import RewardModelConfig
from rlhf_trainer.config.sft import SFTConfig

LIMIT_OVER_TARGET = 2.5
"""Default KL limit as a multiple of the adaptive controller's target: batches scatter up to 1.7
times the target.
"""


class TrainingConfig(ConfigModel):
    """What the trainer reads from its configuration file."""

    model: ModelConfig
    """The pretrained model to align. Required."""

    data: DataConfig
    """Demonstrations, comparisons and prompts. Required."""

    sft: SFTConfig = SFTConfig()
    """Supervised fine-tuning. Default: InstructGPT, appendix C.1."""

    reward_model: RewardModelConfig = RewardModelConfig()
    """The reward model. Default: InstructGPT, appendix C.2."""

    ppo: PPOConfig = PPOConfig()
    """PPO against the reward model. Default: InstructGPT, appendix C.4."""

    evaluation: EvaluationConfig = EvaluationConfig()
    """Comparison with the SFT policy. Default: 256 held-out prompts, judged by the reward model."""

    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    """How states are sharded. Default: not at all, plain data parallelism."""

    checkpoint: CheckpointConfig = CheckpointConfig()
    """How often a phase saves. Default: every 10 steps."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of every random choice of the run. Default: 0, as good as any."""

    guard: GuardConfig = GuardConfig()
    """When training stops by itself. Default: by the limit on KL alone."""

    @model_validator(mode="after")
    def fixed_controller_has_a_limit(self) -> Self:
        """Without a target there is nothing to derive the KL limit from."""
        if self.ppo.kl.controller is KLController.FIXED and self.guard.kl.limit_nats is None:
            msg = (
                "guard.kl.limitNats=None: required when ppo.kl.controller is Fixed; "
                "5 to 15 nats per response is the usual range"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def limit_above_target(self) -> Self:
        """A controller that steers for a KL above the limit steers for a stop."""
        kl = self.ppo.kl
        if kl.controller is KLController.ADAPTIVE and self.kl_limit_nats <= kl.target_nats:
            msg = (
                f"guard.kl.limitNats={self.kl_limit_nats}: not above ppo.kl.targetNats="
                f"{kl.target_nats}, which the adaptive controller aims at; "
                f"raise it, {LIMIT_OVER_TARGET} times the target is the default"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def ceiling_above_derived_limit(self) -> Self:
        """A ceiling below the limit would stop policies that count as certified."""
        if self.kl_ceiling_nats < self.kl_limit_nats:
            msg = (
                f"guard.kl.ceilingNats={self.kl_ceiling_nats}: below the limit of "
                f"{self.kl_limit_nats} nats, {LIMIT_OVER_TARGET} times ppo.kl.targetNats; "
                "raise it or leave it out"
            )
            raise ValueError(msg)
        return self

    @property
    def kl_limit_nats(self) -> float:
        """KL per response that stops the run when exceeded, in nats."""
        if self.guard.kl.limit_nats is not None:
            return self.guard.kl.limit_nats
        return LIMIT_OVER_TARGET * self.ppo.kl.target_nats

    @property
    def kl_ceiling_nats(self) -> float:
        """KL per response that stops the run at once, in nats."""
        return self.guard.kl.ceiling_nats or 2 * self.kl_limit_nats
