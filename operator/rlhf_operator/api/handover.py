"""Pieces of a spec that go into Kubernetes objects as they are."""

from typing import Any

from rlhf_trainer.config.base import ConfigModel


class HandedOver(ConfigModel):
    """A piece that Kubernetes reads, spelt as Kubernetes spells it."""

    def rendered(self) -> dict[str, Any]:
        """Return it as it stands in a Kubernetes object."""
        rendered: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return rendered
