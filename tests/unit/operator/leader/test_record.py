"""What a Lease says, and what is written into it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rlhf_operator.leader import record
from rlhf_operator.leader.record import Record
from rlhf_operator.leader.timing import Timing

NOW = datetime(2026, 11, 24, 12, 0, 0, 1234, tzinfo=UTC)


def lease(**spec: Any) -> dict[str, Any]:
    return record.empty("system", "rlhf") | {"spec": spec}


@pytest.mark.parametrize(
    ("holder", "unchanged_seconds", "is_free"),
    [("", 0, True), ("me", 0, True), ("other", 14.9, False), ("other", 15.0, True)],
)
def test_lease_is_free_for_its_holder_and_for_others_after_silence(
    holder: str, unchanged_seconds: float, *, is_free: bool
) -> None:
    seen = Record.of(lease(holderIdentity=holder, leaseDurationSeconds=15), 3.0)
    assert seen.is_free_for("me", unchanged_seconds) is is_free


def test_lease_that_does_not_exist_is_free() -> None:
    assert Record.of(None, 15.0).is_free_for("me", 0.0)


def test_taking_a_lease_counts_and_renewing_it_does_not() -> None:
    taken = record.held_by("me", lease(holderIdentity="other", leaseTransitions=4), NOW, 15.0)
    assert taken["spec"] == {
        "holderIdentity": "me",
        "acquireTime": "2026-11-24T12:00:00.001234Z",
        "renewTime": "2026-11-24T12:00:00.001234Z",
        "leaseDurationSeconds": 15,
        "leaseTransitions": 5,
    }
    later = record.held_by("me", taken, NOW.replace(minute=1), 15.0)
    assert later["spec"]["leaseTransitions"] == 5
    assert later["spec"]["acquireTime"] == taken["spec"]["acquireTime"]
    assert later["spec"]["renewTime"] != taken["spec"]["renewTime"]


def test_lease_written_keeps_the_version_that_was_read() -> None:
    read = lease() | {"metadata": {"name": "rlhf", "resourceVersion": "7"}}
    assert record.held_by("me", read, NOW, 15.0)["metadata"]["resourceVersion"] == "7"
    assert record.let_go(read)["metadata"]["resourceVersion"] == "7"
    assert record.let_go(read)["spec"]["holderIdentity"] == ""


def test_holder_gives_up_before_others_may_take_the_lease() -> None:
    timing = Timing(15.0)
    assert timing.renew_deadline_seconds + timing.retry_seconds * 2 <= timing.lease_seconds
