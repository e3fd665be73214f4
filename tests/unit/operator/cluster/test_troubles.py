"""What people are told of, and when: requests that fail, pods that are missing."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.attempts import AttemptSight
from rlhf_operator.cluster.pods import PodFacts, pod_facts
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
    ("status", "reason", "told"),
    [
        pytest.param(500, "InternalError", "InternalError", id="webhook"),
        pytest.param(500, "", "ServerFailed", id="no-reason"),
        pytest.param(0, "", "ServerFailed", id="no-answer"),
    ],
)
def test_note_failing_server_is_told_after_a_while(
    troubles: Troubles, status: int, reason: str, told: str
) -> None:
    error = ClusterError("failed calling webhook", status=status, reason=reason)
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


class Told:
    """Stands for an API server that tells of pods that it refused to make."""

    async def list(self, *_: object) -> dict[str, Any]:
        return {"items": [{"reason": "FailedCreatePod", "message": "exceeded quota"}]}


JOB = {
    "metadata": {"name": "j", "namespace": "a", "uid": "u", "creationTimestamp": f"{NOON:%FT%TZ}"},
    "spec": {"pytorchReplicaSpecs": {"Master": {"replicas": 1}}},
    "status": {"conditions": [{"type": "Running", "status": "True"}]},
}


def pod(phase: str = "Running", *, gone: bool = False, **metadata: Any) -> PodFacts:
    raw = {"metadata": {"name": "j-master-0", **metadata}, "status": {"phase": phase}}
    return pod_facts(raw, NOON, gone=gone)


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        pytest.param([pod()], None, id="there"),
        pytest.param([pod(gone=True)], "PodForbidden", id="gone"),
        pytest.param([pod(gone=True), pod("Pending")], None, id="gone-and-made-again"),
        pytest.param([pod("Failed")], None, id="ended-and-there"),
        pytest.param([pod(deletionTimestamp=f"{NOON:%FT%TZ}")], None, id="on-its-way-out"),
    ],
)
def test_pods_that_are_gone_are_missing(pods: Sequence[PodFacts], reason: str | None) -> None:
    server: Any = Told()
    later = NOON + PATIENCE
    found, _ = asyncio.run(Troubles(server).of(KEY, AttemptSight(JOB, pods), later))
    assert (found.reason if found else None) == reason
