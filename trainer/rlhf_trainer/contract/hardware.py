"""Where phases run, as far as a memory plan goes: Preparation is told by whoever places the run.

The file lies beside the configuration. Without it nothing is refused for want of memory.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from rlhf_trainer.contract.phases import Phase

HARDWARE_FILE = "hardware.json"
"""Its name."""


class Place(BaseModel):
    """What one phase gets."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    pool: str = ""
    pool_field: str = "spec.placement.pool"
    """Where the manifest names it."""
    nodes: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1)
    """Ranks on each node."""
    nodes_field: str = "spec.placement.nodes"
    processes_field: str = "spec.placement.gpusPerNode"
    """Where the manifest sets them."""
    several_nodes_edit: str | None = None
    """What else the manifest must set for several nodes, as `--set` takes it."""
    is_gpu: bool = False
    memory_bytes: int | None = Field(default=None, ge=1)
    """Of each GPU, or of the machine for each rank; None where it is not known."""
    maximum_processes: int | None = None
    """GPUs that a node has."""
    maximum_nodes: int | None = None
    """Nodes that a run may take."""

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes


class Hardware(BaseModel):
    """The places of phases; of all that train."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    places: dict[Phase, Place]

    def to_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls.model_validate_json(text)
