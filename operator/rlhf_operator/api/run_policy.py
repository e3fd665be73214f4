"""When a run pauses, tries again, gives up and is cleared away."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config.base import ConfigModel


class KeepJobs(StrEnum):
    """Which jobs of a run stay after their end."""

    FAILED = "Failed"
    ALL = "All"
    NONE = "None"


class RunPolicy(ConfigModel):
    """When to pause, when to try again, and when to give up."""

    suspend: bool = False
    """Pause: what runs is asked to save and end, nothing starts, deadlines stand still.

    Default: false. `rlhf run` refuses true.
    """

    backoff_limit: int = Field(default=3, ge=0, le=1000)
    """Retries of a phase that bring no new checkpoint before the run ends; interruptions from
    outside do not count. Default: 3, half of a Kubernetes Job's:
    every one holds GPUs.
    """

    active_deadline_seconds: int | None = Field(default=None, ge=1, le=31_536_000)
    """Longest time from the first attempt to the end of the run, pauses left out, in seconds.
    Default: none.
    """

    phase_deadline_seconds: int | None = Field(default=None, ge=1, le=31_536_000)
    """Longest time from the first attempt at a phase to its end, pauses left out, in seconds.
    Default: none.
    """

    hang_timeout_seconds: int = Field(default=1800, ge=60, le=604_800)
    """Time without a sign of life after which an attempt is ended and counted as failed, in
    seconds. Default: 1800, longer than a micro-batch, loading a model or a judge should take.
    """

    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=31_536_000)
    """Time after the end of the run at which it is deleted, with its jobs, in seconds; the
    workspace goes by its `retention`. Default: never. `rlhf run` ignores it.
    """

    termination_grace_period_seconds: int = Field(default=300, ge=1, le=86_400)
    """Time from the request to stop to the kill, in seconds: a step and a checkpoint should fit.
    Default: 300, ten times a pod's usual.
    """

    keep_jobs: KeepJobs = KeepJobs.FAILED
    """Jobs that stay once the next phase has started, with their pods and logs: Failed, All or
    None. Default: Failed. `rlhf run` keeps every log.
    """

    @model_validator(mode="after")
    def phase_deadline_within_the_run_s(self) -> Self:
        """A phase cannot take longer than its run."""
        run, phase = self.active_deadline_seconds, self.phase_deadline_seconds
        if run is not None and phase is not None and phase > run:
            msg = (
                f"phaseDeadlineSeconds={phase}: longer than activeDeadlineSeconds={run}; "
                "lower it or leave it out"
            )
            raise ValueError(msg)
        return self


class Monitoring(ConfigModel):
    """How closely a run is watched from outside."""

    scrape_interval_seconds: int = Field(default=15, ge=1, le=3600)
    """Time between two looks of the operator at a phase's metrics, in seconds.

    Default: 15, a usual interval of Prometheus. `rlhf run` ignores it.
    """
