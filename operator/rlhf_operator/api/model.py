"""What models of the resource have in common, besides the configuration they inherit.

Status is read from objects that a newer or older version may have written, so unknown fields are
ignored.
"""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Time = datetime
"""Aware, UTC, whole seconds: what metav1.Time can hold."""


class ApiModel(BaseModel):
    """A frozen, camelCase-aliased model that ignores unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def evolve(self, **changes: object) -> Self:
        """Return a copy with `changes`; a misspelt field is a bug of ours and fails."""
        unknown = changes.keys() - type(self).model_fields.keys()
        assert not unknown, f"{type(self).__name__}: {unknown}"  # noqa: S101 -- our own invariant
        return self.model_copy(update=changes)
