"""What a Lease says, and what is written into it: pure; times of others are compared, not read."""

from dataclasses import dataclass
from datetime import datetime

from rlhf_operator.cluster.kinds import LEASES, Json


@dataclass(frozen=True)
class Record:
    """A Lease as one process wrote it."""

    holder: str
    """Empty if nobody holds it."""
    renewed: str
    lease_seconds: float

    @classmethod
    def of(cls, lease: Json | None, default_seconds: float) -> "Record":
        """Read a Lease, or the absence of one."""
        spec = (lease or {}).get("spec") or {}
        return cls(
            holder=str(spec.get("holderIdentity") or ""),
            renewed=str(spec.get("renewTime") or ""),
            lease_seconds=float(spec.get("leaseDurationSeconds") or default_seconds),
        )

    def is_free_for(self, identity: str, unchanged_seconds: float) -> bool:
        """Return whether `identity` may take it, having seen it unchanged for so long."""
        return self.holder in ("", identity) or unchanged_seconds >= self.lease_seconds


def empty(namespace: str, name: str) -> Json:
    """Return a Lease that nobody holds and that does not exist yet."""
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}


def held_by(identity: str, lease: Json, now: datetime, lease_seconds: float) -> Json:
    """Return the Lease as its holder writes it; its resource version stays a precondition."""
    spec = dict(lease.get("spec") or {})
    if spec.get("holderIdentity") != identity:
        spec["acquireTime"] = _micro_time(now)
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
    spec |= {
        "holderIdentity": identity,
        "renewTime": _micro_time(now),
        # The API server takes whole seconds of at least one.
        "leaseDurationSeconds": max(1, round(lease_seconds)),
    }
    return {**lease, "spec": spec}


def let_go(lease: Json) -> Json:
    """Return the Lease as its holder leaves it behind."""
    return {**lease, "spec": {**(lease.get("spec") or {}), "holderIdentity": ""}}


def _micro_time(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
