"""What a user asks for: the training half, where it runs, and when to give up.

Hyper-parameters and their checks are declared in `rlhf_trainer.config`; only what the trainer
never reads, and checks that need both halves, are declared here.
"""

from typing import Self

from pydantic import Field, model_validator

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.base import ConfigModel
from rlhf_trainer.config.model import Device, ModelConfig

LOCAL_POOL = "local"
"""The pool that `rlhf run` offers: this machine."""


class Placement(ConfigModel):
    """Where the phases run."""

    pool: str = Field(default=LOCAL_POOL, min_length=1, max_length=63)
    """Node pool, by the name its owner gave it. Default: local, the one that `rlhf run` has."""

    nodes: int = Field(default=1, ge=1, le=4096)
    """Machines per phase. Default: 1."""

    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs per machine. Default: 0, train on CPU unless a driver answers."""

    processes_per_node: int | None = Field(default=None, ge=1, le=512)
    """Processes (ranks) per machine. Default: `gpusPerNode`, or 1 without GPUs."""

    @property
    def processes(self) -> int:
        """Processes on one machine."""
        return self.processes_per_node or max(self.gpus_per_node, 1)

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes

    @model_validator(mode="after")
    def one_gpu_per_process(self) -> Self:
        """NCCL refuses two ranks on one GPU."""
        if 0 < self.gpus_per_node < self.processes:
            msg = (
                f"processesPerNode={self.processes}: more than gpusPerNode={self.gpus_per_node}; "
                "use at most one process per GPU"
            )
            raise ValueError(msg)
        return self


class RunPolicy(ConfigModel):
    """When to try again, and when to give up."""

    backoff_limit: int = Field(default=3, ge=0, le=1000)
    """Retries of a phase that bring no new checkpoint before the run ends; interruptions from
    outside do not count. Default: 3.
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
    seconds. Default: 1800, three times the usual timeout of a collective.
    """

    termination_grace_period_seconds: int = Field(default=300, ge=1, le=86_400)
    """Time from the request to stop to the kill, in seconds: a step and a checkpoint should fit.
    Default: 300.
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


class RLHFRunSpec(TrainingConfig):
    """What a user asks for."""

    placement: Placement = Placement()
    """Where the phases run. Default: one process on this machine."""

    run_policy: RunPolicy = RunPolicy()
    """When to try again, and when to give up. Default: 3 retries, no deadline."""

    def training(self) -> TrainingConfig:
        """Return the half that the trainer reads."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields})

    @model_validator(mode="after")
    def devices_agree_with_the_placement(self) -> Self:
        """A model on CUDA needs GPUs from the placement, and GPUs need a model that uses them."""
        gpus = self.placement.gpus_per_node
        models: dict[str, ModelConfig | None] = {
            "model": self.model,
            "rewardModel.model": self.reward_model.model,
        }
        for name, model in models.items():
            if model is not None and model.device is Device.CUDA and gpus == 0:
                msg = (
                    f"{name}.device=CUDA: placement.gpusPerNode is 0; "
                    "set spec.placement.gpusPerNode, or leave the device at Auto"
                )
                raise ValueError(msg)
        if gpus and self.model.device is Device.CPU:
            msg = (
                f"model.device=CPU: {gpus} GPUs per node would stand idle; "
                "set spec.placement.gpusPerNode to 0, or leave the device at Auto"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def batches_divide_over_the_processes(self) -> Self:
        """Every process takes the same share of a batch."""
        ranks = self.placement.world_size
        batches = {"ppo.minibatchSize": self.ppo.minibatch_size}
        if self.sft.from_ is None:
            batches["sft.batchSize"] = self.sft.batch_size
        if self.reward_model.from_ is None:
            batches["rewardModel.batchSize"] = self.reward_model.batch_size
        for name, size in batches.items():
            if size % ranks:
                msg = (
                    f"{name}={size}: does not divide over {ranks} processes "
                    f"({self.placement.nodes} nodes x {self.placement.processes}); "
                    f"use a multiple of {ranks}"
                )
                raise ValueError(msg)
        return self
