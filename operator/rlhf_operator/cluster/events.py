"""Events: what `kubectl describe` tells about a run's transitions. They fail nobody's pass."""

import hashlib
from datetime import datetime

from rlhf_operator.api import RLHFRun
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.decide import Event

COMPONENT = "rlhf-operator"

_LONGEST_MESSAGE = 1024
"""The API server takes no longer ones."""


def event_manifest(run: RLHFRun, event: Event, now: datetime) -> Json:
    """Return an event about a run; the same one has the same name, so it is told once."""
    said = f"{run.metadata.uid}/{event.reason}/{event.message}/{now.isoformat()}"
    name = f"{run.metadata.name}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    message = event.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": run.metadata.namespace},
        "involvedObject": {
            "apiVersion": run.api_version,
            "kind": run.kind,
            "name": run.metadata.name,
            "namespace": run.metadata.namespace,
            "uid": run.metadata.uid,
        },
        "reason": event.reason[:128],
        "message": message,
        "type": "Warning" if event.is_warning else "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
