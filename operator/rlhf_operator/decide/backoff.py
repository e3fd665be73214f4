"""How long to wait before the next attempt: doubling from the first failure on, up to a cap."""

from datetime import timedelta

FIRST_SECONDS = 10
"""Wait after the first failure: what a passing fault of a disk or network takes to pass."""

LONGEST_SECONDS = 300
"""Longest wait: five minutes, as the kubelet's."""


def backoff(failures: int) -> timedelta:
    """Return the wait after `failures` failures in a row; one that got further counts as none."""
    doublings = min(max(failures - 1, 0), LONGEST_SECONDS.bit_length())
    return timedelta(seconds=min(FIRST_SECONDS * 2**doublings, LONGEST_SECONDS))
