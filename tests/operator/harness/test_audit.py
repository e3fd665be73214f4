import json
from pathlib import Path

from rlhf_harness.audit import AuditLog

EVENT = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "user": {"username": "operator"},
    "verb": "create",
    "objectRef": {"resource": "pytorchjobs", "name": "first"},
    "responseStatus": {"code": 201},
    "requestReceivedTimestamp": "2026-11-28T15:59:27.308660Z",
    "stageTimestamp": "2026-11-28T15:59:27.318660Z",
}


def test_event_behind_half_of_one_is_read(tmp_path: Path) -> None:
    """A killed server leaves half a line, and the next one writes on behind it."""
    whole = json.dumps(EVENT, separators=(",", ":"))
    (tmp_path / "audit.log").write_text(f"{whole}\n{whole[:100]}{whole}\n{whole[:100]}", "utf-8")
    found = AuditLog(tmp_path / "audit.log").since()
    assert [(one.name, one.code, one.writes) for one in found] == [("first", 201, True)] * 2
