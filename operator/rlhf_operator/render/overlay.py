"""What a run's podTemplate adds to the trainer's pods; the operator's own part comes first."""

from collections.abc import Sequence
from typing import Any

from rlhf_operator.api.handover import HandedOver
from rlhf_operator.api.pod_template import PodTemplate

Json = dict[str, Any]


def merged_environment(own: Sequence[Json], template: PodTemplate) -> list[Json]:
    """Return our variables and the template's; where both name one, the template's."""
    added = rendered(template.env)
    names = {variable["name"] for variable in added}
    return [variable for variable in own if variable["name"] not in names] + added


def rendered(entries: Sequence[HandedOver] | None) -> list[Json]:
    """Return entries as they stand in a pod."""
    return [entry.rendered() for entry in entries or ()]
