"""Where the three data sets of RLHF come from, and when raters agree enough to learn from."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel, RelativePath


class DatasetSource(ConfigModel):
    """One data set: a file or folder below the data root, or a data set on the hub."""

    path: RelativePath | None = None
    """File (.jsonl, .parquet) or folder saved by `datasets`, relative to the data root.

    Default: none; one of `path` and `hub` is required.
    """

    hub: str | None = Field(default=None, min_length=1, max_length=256)
    """Id of a data set on the hub, such as `org/name`. Default: none."""

    revision: str | None = Field(default=None, min_length=1, max_length=256)
    """Branch, tag or commit of the hub's data set. Default: its main branch."""

    split: str = Field(default="train", min_length=1, max_length=128)
    """Split to read of a hub data set or folder. Default: train, the convention of `datasets`."""

    @model_validator(mode="after")
    def path_or_hub(self) -> Self:
        """Exactly one of `path` and `hub` names the data."""
        if (self.path is None) == (self.hub is None):
            what = "name" if self.path is None else "keep"
            msg = (
                f"path={self.path!r}, hub={self.hub!r}: exactly one must be set; "
                f"{what} one of the two"
            )
            raise ValueError(msg)
        return self


class AgreementStatistic(StrEnum):
    """A measure of how far raters agree."""

    PERCENT_AGREEMENT = "PercentAgreement"
    COHEN_KAPPA = "CohenKappa"
    FLEISS_KAPPA = "FleissKappa"


class MinimumAgreement(ConfigModel):
    """The gate on annotator agreement: below it the run ends before any training (exit 11)."""

    statistic: AgreementStatistic = AgreementStatistic.FLEISS_KAPPA
    """Measure of agreement: PercentAgreement (share of pairs of raters who agree), CohenKappa (mean
    over pairs of raters; Cohen 1960) or FleissKappa (Fleiss 1971).

    Default: FleissKappa, which takes any number of raters.
    """

    at_least: float = Field(default=0.4, ge=-1, le=1)
    """Smallest agreement to go on with.

    Default: 0.4, where Landis and Koch (1977) begin "moderate".
    """


class ComparisonsSource(DatasetSource):
    """Comparisons: which of two responses people preferred."""

    minimum_agreement: MinimumAgreement | None = None
    """Gate on agreement; needs annotator-level records. Default: no gate."""


class PromptsSource(DatasetSource):
    """Prompts that PPO samples responses to."""

    maximum_tokens: int = Field(default=512, ge=1, le=131_072)
    """Longest prompt, in tokens; longer prompts are refused by Preparation.

    Default: half of OpenAI's 1024-token context for TL;DR (arXiv:2009.01325).
    """


class HeldOutConfig(ConfigModel):
    """Data kept from training, for validation and evaluation."""

    fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of a training set held out, chosen by a hash of the record, where no held-out set is
    named.

    Default: 5 %, as is usual.
    """

    demonstrations: DatasetSource | None = None
    """Demonstrations for the SFT validation loss. Default: a fraction of the training set."""

    comparisons: DatasetSource | None = None
    """Comparisons for the reward model's validation accuracy.

    Default: a fraction of the training set.
    """

    prompts: DatasetSource | None = None
    """Prompts for Evaluation. Default: a fraction of the prompts."""


class DataConfig(ConfigModel):
    """The data of the three phases of InstructGPT (figure 2, arXiv:2203.02155)."""

    demonstrations: DatasetSource
    """Demonstrations for SFT: language-modelling or prompt-completion records. Required."""

    comparisons: ComparisonsSource
    """Comparisons for the reward model: preference records, with annotators' choices if known.

    Required.
    """

    prompts: PromptsSource
    """Prompts for PPO. Required."""

    held_out: HeldOutConfig = HeldOutConfig()
    """Data kept from training. Default: 5 % of each set."""
