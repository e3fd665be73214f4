"""What a user asks for: the training half, where it runs, and when to give up.

Hyper-parameters and their checks are declared in `rlhf_trainer.config`; only what the trainer
never reads, and checks that need both halves, are declared here.
"""

from typing import Self

from pydantic import Field, model_validator

from rlhf_operator.api.placement import LOCAL_POOL, TRAINED_PHASES, Placement, placed
from rlhf_operator.api.pod_template import PodTemplate
from rlhf_operator.api.run_policy import Monitoring, RunPolicy
from rlhf_operator.api.workspace import AccessMode, WorkspaceVolume
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import Device, ModelConfig
from rlhf_trainer.contract import Phase

__all__ = ["LOCAL_POOL", "Placement", "RLHFRunSpec", "RunPolicy"]


class RLHFRunSpec(TrainingConfig):
    """What a user asks for."""

    image: str | None = Field(default=None, min_length=1, max_length=1024, pattern=r"^\S+$")
    """Image of the trainer. Default: the one that the operator was installed with.

    `rlhf run` ignores it.
    """

    workspace: WorkspaceVolume = WorkspaceVolume()
    """The volume of the run. Default: a claim of 100Gi that one node at a time may mount."""

    placement: Placement = Placement()
    """Where the phases run. Default: on one machine of the pool `local`."""

    pod_template: PodTemplate = PodTemplate()
    """What is added to the trainer's pods. Default: nothing."""

    run_policy: RunPolicy = RunPolicy()
    """When to pause, try again and give up. Default: 3 retries, no deadline."""

    monitoring: Monitoring = Monitoring()
    """How closely the run is watched from outside. Default: every 15 seconds."""

    def training(self) -> TrainingConfig:
        """Return the half that the trainer reads."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields})

    @model_validator(mode="after")
    def devices_agree_with_the_placement(self) -> Self:
        """A model on CUDA needs GPUs from the placement, and GPUs need a model that uses them."""
        gpus = {phase: placed(self.placement, phase).gpus_per_node for phase in TRAINED_PHASES}
        models: dict[str, ModelConfig | None] = {
            "model": self.model,
            "rewardModel.model": self.reward_model.model,
        }
        for name, model in models.items():
            if model is not None and model.device is Device.CUDA and 0 in gpus.values():
                msg = (
                    f"{name}.device=CUDA: placement.gpusPerNode is 0; "
                    "set spec.placement.gpusPerNode, or leave the device at Auto"
                )
                raise ValueError(msg)
        if any(gpus.values()) and self.model.device is Device.CPU:
            msg = (
                f"model.device=CPU: {max(gpus.values())} GPUs per node would stand idle; "
                "set spec.placement.gpusPerNode to 0, or leave the device at Auto"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def batches_divide_over_the_processes(self) -> Self:
        """Every process takes the same share of a batch."""
        batches = {Phase.PPO: ("ppo.minibatchSize", self.ppo.minibatch_size)}
        if self.sft.from_ is None:
            batches[Phase.SFT] = ("sft.batchSize", self.sft.batch_size)
        if self.reward_model.from_ is None:
            batches[Phase.REWARD_MODEL] = ("rewardModel.batchSize", self.reward_model.batch_size)
        for phase, (name, size) in batches.items():
            place = placed(self.placement, phase)
            if size % place.world_size:
                msg = (
                    f"{name}={size}: does not divide over {place.world_size} processes "
                    f"({place.nodes} nodes x {place.processes}); "
                    f"use a multiple of {place.world_size}"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def several_nodes_share_the_workspace(self) -> Self:
        """A volume for one node at a time keeps the others waiting for ever."""
        workspace = self.workspace
        nodes = max(placed(self.placement, phase).nodes for phase in TRAINED_PHASES)
        alone = workspace.access_mode is AccessMode.READ_WRITE_ONCE
        if workspace.claim_name is None and alone and nodes > 1:
            msg = (
                f"workspace.accessMode={workspace.access_mode}: {nodes} nodes cannot mount it; "
                "set it to ReadWriteMany, with a storage class that can, or name a claim"
            )
            raise ValueError(msg)
        return self
