"""Whether somebody changed a job of ours: jobs are created and never changed, so any change is."""

from rlhf_operator.cluster.api import FIELD_MANAGER
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.render.job import QUEUE_LABEL

_QUEUE_MANAGER = "kueue"
"""Lets queued jobs start, on the nodes that it has chosen."""


def edit(job: Json) -> str | None:
    """Return who changed what a job asks for, when, and what to do; None if nobody did."""
    metadata = job["metadata"]
    queued = QUEUE_LABEL in (metadata.get("labels") or {})
    foreign = [
        one
        for one in metadata.get("managedFields") or ()
        if "f:spec" in (one.get("fieldsV1") or {})
        and not one.get("subresource")
        and one.get("manager") != FIELD_MANAGER
        and not (queued and str(one.get("manager", "")).startswith(_QUEUE_MANAGER))
    ]
    if not foreign and (queued or metadata.get("generation", 1) == 1):
        return None
    # Who only takes a field away is noted nowhere.
    last: Json = max(foreign, key=lambda one: str(one.get("time", "")), default={})
    who = f" by {last['manager']} at {last.get('time')}" if last else ""
    name, namespace = metadata["name"], metadata["namespace"]
    return (
        f"PyTorchJob {name} was edited{who}: "
        "what runs may not be what the run asks for; for a new attempt delete it: "
        f"kubectl -n {namespace} delete pytorchjob {name}"
    )
