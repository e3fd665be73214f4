"""The status of a run that this version cannot read: nothing but the condition that says so."""

from datetime import datetime
from typing import Any

from rlhf_operator.cluster.kinds import Json
from rlhf_operator.errors import SpecError

_LONGEST_MESSAGE = 8000


def unreadable_status(raw: Json, problem: SpecError, now: datetime) -> Json | None:
    """Return the status to write, or None if it says so already."""
    status: dict[str, Any] = dict(raw.get("status") or {})
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "Accepted"]
    condition = {
        "type": "Accepted",
        "status": "False",
        "reason": "Unreadable",
        "message": str(problem)[:_LONGEST_MESSAGE],
        "observedGeneration": raw["metadata"].get("generation", 0),
        "lastTransitionTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
    }
    known: Json = next(
        (one for one in status.get("conditions") or () if one.get("type") == "Accepted"), {}
    )
    same = ("status", "reason", "message", "observedGeneration")
    if all(known.get(name) == condition[name] for name in same):
        return None
    return {**status, "conditions": [condition, *conditions]}
