"""Hyper-parameters of PPO against the reward model."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel, LearningRateSchedule, OptimizerConfig, Probability

MAXIMUM_KL_ERROR = 0.2
"""Largest relative error that the adaptive controller answers to (arXiv:1909.08593, section
2.2)."""


class Critic(StrEnum):
    """Which network estimates values."""

    SEPARATE = "Separate"
    """Its own trunk, started from the reward model (InstructGPT, appendix C.4), or from the SFT
    model if the reward model has another tokenizer."""
    SHARED_TRUNK = "SharedTrunk"
    """A value head on the policy's trunk (OpenAI 2019, arXiv:1909.08593): less memory, less
    accurate values.
    """


class KLPlacement(StrEnum):
    """Where the KL penalty enters."""

    REWARD = "Reward"
    """Subtracted from each token's reward (OpenAI 2019, InstructGPT equation 2)."""
    LOSS = "Loss"
    """Added to the loss, with its gradient (as GRPO, arXiv:2402.03300, equation 4)."""


class KLEstimator(StrEnum):
    """Per-token estimate of KL(policy, reference) from the sampled token.

    With r = reference / policy: J. Schulman, "Approximating KL divergence", 2020.
    """

    K1 = "K1"
    """-log r: unbiased, may be negative."""
    K2 = "K2"
    """(log r)^2 / 2: biased, low variance."""
    K3 = "K3"
    """r - 1 - log r: unbiased, never negative."""


class KLController(StrEnum):
    """How the KL coefficient moves."""

    ADAPTIVE = "Adaptive"
    """Follows `targetNats` (arXiv:1909.08593, section 2.2)."""
    FIXED = "Fixed"
    """Stays at `coefficient` (InstructGPT)."""


class KLConfig(ConfigModel):
    """The penalty that keeps the policy near the SFT model."""

    coefficient: float = Field(default=0.02, ge=0, le=100)
    """Weight of the KL penalty at the start, in score units per nat; above 0 with the adaptive
    controller, which multiplies it.

    Default: InstructGPT, appendix C.4.
    """

    placement: KLPlacement = KLPlacement.REWARD
    """Where the penalty enters: Reward or Loss. Default: Reward (InstructGPT, equation 2)."""

    estimator: KLEstimator = KLEstimator.K1
    """Per-token estimator of the penalty: K1, K2 or K3.

    Default: K1, as OpenAI 2019 and InstructGPT.
    """

    controller: KLController = KLController.ADAPTIVE
    """Whether the coefficient follows a target.

    Default: Adaptive (arXiv:1909.08593, section 2.2).
    """

    target_nats: float = Field(default=6.0, gt=0, le=1000)
    """KL per response that the adaptive controller aims at, in nats.

    Default: OpenAI's lm-human-preferences.
    """

    horizon_episodes: float = Field(default=10_000, gt=0, le=1e9)
    """Episodes over which a constant error of 1 would change the coefficient by its own size; with
    the adaptive controller more than 0.2 times `rolloutBatchSize`.

    Default: OpenAI's lm-human-preferences.
    """

    @model_validator(mode="after")
    def loss_has_a_useful_gradient(self) -> Self:
        """As a loss, k1 pulls nowhere: its gradient is zero in expectation."""
        if self.placement is KLPlacement.LOSS and self.estimator is KLEstimator.K1:
            msg = (
                "estimator=K1: as a loss its gradient is zero in expectation; "
                "use K2 or K3, or placement Reward"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def adaptive_coefficient_can_move(self) -> Self:
        """The adaptive controller multiplies, and a coefficient of 0 stays at 0."""
        if self.controller is KLController.ADAPTIVE and self.coefficient == 0:
            msg = (
                "coefficient=0: the adaptive controller multiplies it, and it would stay at 0; "
                "raise it, or set controller Fixed to train without a penalty"
            )
            raise ValueError(msg)
        return self


class UpdateKLConfig(ConfigModel):
    """Ends the epochs of one rollout early: the policy has moved far from what sampled it."""

    limit_nats_per_token: float = Field(gt=0, le=100)
    """Mean KL(rollout policy, policy) per token, in nats, of an epoch's last minibatch above which
    no further epoch of this rollout is run. Each minibatch is measured before its own step.

    Required; 0.1 is a usual choice (TRL's target_kl).
    """


class PPOConfig(OptimizerConfig):
    """PPO (arXiv:1707.06347) on responses sampled from the policy, as InstructGPT section 3.5."""

    total_episodes: int = Field(default=256_000, ge=1, le=1_000_000_000)
    """Responses to sample in all. Default: InstructGPT, appendix C.4."""

    rollout_batch_size: int = Field(default=512, ge=1, le=1_048_576)
    """Responses sampled per step, over all ranks. Default: InstructGPT, appendix C.4."""

    minibatch_size: int = Field(default=64, ge=1, le=1_048_576)
    """Responses per update, over all ranks; must divide `rolloutBatchSize`.

    Default: InstructGPT, appendix C.4.
    """

    epochs: int = Field(default=1, ge=1, le=100)
    """Passes over one rollout. Default: 1 (InstructGPT, appendix C.4)."""

    schedule: LearningRateSchedule = LearningRateSchedule.CONSTANT
    """Shape of the learning rate after warm-up. Default: constant (InstructGPT, appendix C.4)."""

    learning_rate: float = Field(default=9e-6, gt=0, le=10)
    """Largest learning rate of the policy.

    Default: InstructGPT's 6B reward and value models, appendix C; its policies were tuned per size.
    That is for full fine-tuning; with `model.lora` about ten times as much is usual, such as 1e-4.
    """

    critic_learning_rate: float | None = Field(default=None, gt=0, le=10)
    """Largest learning rate of the critic or value head. Default: `learningRate`."""

    clip_range: float = Field(default=0.2, gt=0, lt=1)
    """Clipping of the probability ratio, epsilon. Default: arXiv:1707.06347 and InstructGPT."""

    value_clip_range: float = Field(default=0.2, gt=0, le=1e6)
    """Clipping of a value's move from its rollout value, in score units.

    Default: InstructGPT, appendix C.4.
    """

    value_coefficient: float = Field(default=0.1, gt=0, le=100)
    """Weight of the value loss. With a separate critic Adam divides most of it out again: it acts
    where gradients are clipped, and where they are small beside `adamEpsilon`.

    Default: OpenAI's lm-human-preferences.
    """

    discount: float = Field(default=1.0, gt=0, le=1)
    """Discount of the return per token, gamma. Default: none (InstructGPT, appendix C.4)."""

    gae_lambda: Probability = 0.95
    """Lambda of generalised advantage estimation (arXiv:1506.02438).

    Default: OpenAI's lm-human-preferences.
    """

    whiten_rewards: bool = False
    """Divide rewards by their batch standard deviation, without shifting the mean.

    Default: off, scores are already normalised.
    """

    temperature: float = Field(default=1.0, gt=0, le=10)
    """Sampling temperature; the log-probabilities of policy and reference use the same.

    Default: InstructGPT, appendix C.4.
    """

    maximum_response_tokens: int = Field(default=256, ge=1, le=131_072)
    """Longest sampled response, in tokens.

    Default: room for InstructGPT's typical responses; KV-cache memory grows with it.
    """

    missing_eos_penalty: float = Field(default=0.0, ge=0, le=1e6)
    """Subtracted from the score of a response that ends without the end-of-sequence token, in score
    units.

    Default: 0; TRL's examples use 1.
    """

    score_clip: float | None = Field(default=None, gt=0, le=1e6)
    """Normalised scores are clipped to plus or minus this.

    Default: no clipping; OpenAI's baselines use 5 to 10.
    """

    critic: Critic = Critic.SEPARATE
    """Which network estimates values: Separate or SharedTrunk.

    Default: Separate (InstructGPT, appendix C.4).
    """

    kl: KLConfig = KLConfig()
    """KL penalty. Default: InstructGPT's coefficient with OpenAI's adaptive controller."""

    update_kl: UpdateKLConfig | None = None
    """Ends the epochs of one rollout early; needs `epochs` above 1. Default: never."""

    @model_validator(mode="after")
    def minibatches_divide_rollout(self) -> Self:
        """A rollout is made of whole minibatches."""
        if self.rollout_batch_size % self.minibatch_size:
            msg = (
                f"minibatchSize={self.minibatch_size}: does not divide "
                f"rolloutBatchSize={self.rollout_batch_size}; choose a divisor of it"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def controller_keeps_its_sign(self) -> Self:
        """A coefficient that turned negative would pay the policy for drifting."""
        change = MAXIMUM_KL_ERROR * self.rollout_batch_size
        if self.kl.controller is KLController.ADAPTIVE and change >= self.kl.horizon_episodes:
            msg = (
                f"kl.horizonEpisodes={self.kl.horizon_episodes:g}: a step of rolloutBatchSize="
                f"{self.rollout_batch_size} could take the KL coefficient to 0 or below; raise it "
                f"above {change:g}, {MAXIMUM_KL_ERROR} times the batch"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def update_kl_has_an_epoch_to_end(self) -> Self:
        """The limit is looked at after an epoch: with one alone nothing is left to leave out."""
        if self.update_kl is not None and self.epochs == 1:
            msg = (
                "epochs=1: updateKl leaves out further epochs, and there are none; "
                "raise epochs, or remove updateKl"
            )
            raise ValueError(msg)
        return self

    @property
    def total_steps(self) -> int:
        """Steps (rollout and update) that cover `totalEpisodes`, the last one whole."""
        return -(-self.total_episodes // self.rollout_batch_size)
