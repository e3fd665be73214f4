"""Which failures of requests people are told of, and when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.troubles import PATIENCE, Troubles
from rlhf_operator.errors import ClusterError

KEY = RunKey("a", "demo")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def troubles() -> Troubles:
    nobody: Any = None  # nothing is asked of the API server here
    return Troubles(nobody)


def test_note_refusal_is_told_at_once(troubles: Troubles) -> None:
    troubles.note(KEY, ClusterError("no", status=403, reason="Forbidden"), NOON)
    noted = troubles.noted(KEY)
    assert noted is not None
    assert noted.reason == "Forbidden"
    troubles.clear(KEY)
    assert troubles.noted(KEY) is None


@pytest.mark.parametrize(
    ("reason", "told"), [("InternalError", "InternalError"), ("", "ServerFailed")]
)
def test_note_failing_server_is_told_after_a_while(
    troubles: Troubles, reason: str, told: str
) -> None:
    error = ClusterError("failed calling webhook", status=500, reason=reason)
    troubles.note(KEY, error, NOON)
    troubles.note(KEY, error, NOON + PATIENCE - timedelta(seconds=1))
    assert troubles.noted(KEY) is None
    troubles.note(KEY, error, NOON + PATIENCE)
    noted = troubles.noted(KEY)
    assert noted is not None
    assert noted.reason == told


def test_note_conflicts_are_never_told(troubles: Troubles) -> None:
    for seconds in (0, 100):
        error = ClusterError("changed", status=409, reason="Conflict")
        troubles.note(KEY, error, NOON + timedelta(seconds=seconds))
    assert troubles.noted(KEY) is None
