"""Who asked the API server for what: its audit log, read by tests that count requests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
"""Verbs that change something."""

EVENT = b'{"kind":"Event","apiVersion":"audit.k8s.io/'
"""What an event of the log begins with; no object that it tells of does."""


@dataclass(frozen=True)
class Request:
    """One request that the API server has answered."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    received: datetime
    answered: datetime
    """When it came and when its answer was complete, on the server's clock, to the microsecond."""
    body: Any
    """What was sent, for resources of rlhf.dev; else None."""

    @property
    def writes(self) -> bool:
        """Whether it asked for a change."""
        return self.verb in WRITES


@dataclass(frozen=True)
class AuditLog:
    """The audit log. The server writes a line before it ends the answer, so none is late."""

    path: Path

    def mark(self) -> int:
        """A place in the log: what follows is what has happened since."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, mark: int = 0, *, user: str | None = None) -> list[Request]:
        """The requests after a mark, of one user or of all."""
        return [one for one in self._read(mark) if user is None or one.user == user]

    def _read(self, mark: int) -> Iterator[Request]:
        with self.path.open("rb") as log:
            log.seek(mark)
            for line in log:
                if line.endswith(b"\n"):
                    yield _request(_event(line))


def _event(line: bytes) -> dict[str, Any]:
    """Return the event that a line ends with: a killed server may have left half of one before."""
    event: dict[str, Any] = json.loads(line[line.rindex(EVENT) :])
    return event


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef", {})
    user = event.get("impersonatedUser", event["user"])
    return Request(
        user=user["username"],
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered=datetime.fromisoformat(event["stageTimestamp"]),
        body=event.get("requestObject"),
    )
