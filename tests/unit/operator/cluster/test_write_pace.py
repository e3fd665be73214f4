"""Writes that can wait do so while others are on their way, and after too many in a second."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

from rlhf_operator.cluster.write_pace import (
    BUSY_WRITES,
    CROWDED_WRITES,
    WRITES_PER_SECOND,
    WritePace,
)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_writes_on_their_way_make_busy_and_then_crowded() -> None:
    clock = Clock()
    pace = WritePace(clock)
    with ExitStack() as stack:
        for count in range(1, CROWDED_WRITES + 1):
            stack.enter_context(pace.writing())
            assert pace.is_busy() is (count >= BUSY_WRITES)
            assert pace.is_crowded() is (count >= CROWDED_WRITES)
    clock.pass_by(1)
    assert not pace.is_busy()
    assert not pace.is_crowded()


def test_writes_of_the_last_second_make_busy_until_it_is_over() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(WRITES_PER_SECOND):
        assert not pace.is_busy()
        with pace.writing():
            clock.pass_by(0.05)
    assert pace.is_busy()
    clock.pass_by(1 - 0.05 * WRITES_PER_SECOND)
    assert not pace.is_busy(), "the first of them is a second old"
    clock.pass_by(1)
    for _ in range(WRITES_PER_SECOND - 1):
        with pace.writing():
            pass
    assert not pace.is_busy(), "all of them are forgotten"


def test_a_clock_that_is_set_back_leaves_nobody_busy() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(WRITES_PER_SECOND):
        with pace.writing():
            pass
    clock.pass_by(-3600)
    assert not pace.is_busy()


def test_a_write_that_fails_is_over_too() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(BUSY_WRITES):
        with suppress(ValueError), pace.writing():
            raise ValueError
    clock.pass_by(1)
    assert not pace.is_busy()


def test_writes_that_nobody_asks_about_are_not_kept() -> None:
    pace = WritePace(Clock())
    for _ in range(10 * WRITES_PER_SECOND):
        with pace.writing():
            pass
    assert len(pace._begun) == WRITES_PER_SECOND
