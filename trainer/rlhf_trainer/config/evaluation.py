"""How the trained policy is compared with the SFT model."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel, Probability


class JudgeKind(StrEnum):
    """Who decides which of two responses is better."""

    REWARD_MODEL = "RewardModel"
    ENTRY_POINT = "EntryPoint"


class JudgeConfig(ConfigModel):
    """The judge of win rates."""

    kind: JudgeKind = JudgeKind.REWARD_MODEL
    """RewardModel, or EntryPoint for a function of your own.

    Default: RewardModel, which cannot see its own over-optimisation (arXiv:2210.10760): bring a
    judge that training never saw.
    """

    entry_point: str | None = Field(
        default=None, max_length=512, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
    )
    """`package.module:function`, importable in the trainer's image; called with prompts, responses
    and the data root, it returns one score per response, higher is better.

    Default: none; required with EntryPoint.
    """

    @model_validator(mode="after")
    def entry_point_with_its_kind(self) -> Self:
        """`entryPoint` is set exactly when the kind is EntryPoint."""
        if self.kind is JudgeKind.ENTRY_POINT and self.entry_point is None:
            msg = (
                "entryPoint=None: required with kind EntryPoint; "
                "name package.module:function, or use kind RewardModel"
            )
            raise ValueError(msg)
        if self.kind is not JudgeKind.ENTRY_POINT and self.entry_point is not None:
            msg = (
                f"entryPoint={self.entry_point!r}: not read with kind {self.kind.value}; "
                "set kind EntryPoint, or remove it"
            )
            raise ValueError(msg)
        return self


class EvaluationConfig(ConfigModel):
    """Win rate against the SFT policy on held-out prompts."""

    prompt_count: int = Field(default=256, ge=2, le=1_000_000)
    """Held-out prompts to compare on.

    Default: 256, which puts 6 points around a win rate of one half (95 %).
    """

    every_steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """PPO steps between evaluations on the way. Default: only at the end."""

    minimum_win_rate: Probability | None = None
    """Gate: smallest win rate against the SFT policy (exit 11 below it). Default: no gate."""

    judge: JudgeConfig = JudgeConfig()
    """Who decides which of two responses is better. Default: the reward model."""

    sample_count: int = Field(default=16, ge=0, le=1000)
    """Prompts whose responses are kept side by side for the report.

    Default: 16, as many as one reads.
    """
