import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.holdout import KEY_RANGE, held_out, holdout_key
from rlhf_trainer.data.records import (
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Record,
    Role,
)

HELLO = (Message(Role.USER, "Hello"),)
HI = (Message(Role.ASSISTANT, "Hi"),)
GO = (Message(Role.ASSISTANT, "Go"),)

SAME_SIDE: dict[str, tuple[Record, Record]] = {
    "identical demonstrations": (
        Demonstration("a:1", "p", "c"),
        Demonstration("b:9", "p", "c"),
    ),
    "one prompt, other responses": (
        Comparison("a:1", "p", "x", "y"),
        Comparison("a:2", "p", "z", "x"),
    ),
    "one conversation, other responses": (
        Comparison("a:1", HELLO, HI, GO),
        Comparison("a:2", HELLO, GO, HI),
    ),
    "no prompt, responses swapped": (
        Comparison("a:1", "", "x", "y"),
        Comparison("a:2", "", "y", "x"),
    ),
    "identical prompts": (Prompt("a:1", "p"), Prompt("b:2", "p")),
    "a prompt and its comparison": (Prompt("a:1", "p"), Comparison("c:1", "p", "x", "y")),
}
OTHER_KEY: dict[str, tuple[Record, Record]] = {
    "another completion": (Demonstration("a:1", "p", "c"), Demonstration("a:1", "p", "d")),
    "text moved from prompt to completion": (
        Demonstration("a:1", "p c", "d"),
        Demonstration("a:1", "p", " cd"),
    ),
    "no prompt, other responses": (
        Comparison("a:1", "", "x", "y"),
        Comparison("a:2", "", "x", "z"),
    ),
    "text and a message": (Prompt("a:1", "Hello"), Prompt("a:1", HELLO)),
}


@pytest.mark.parametrize(("one", "other"), SAME_SIDE.values(), ids=SAME_SIDE.keys())
def test_records_that_belong_together_share_a_key(one: Record, other: Record) -> None:
    assert holdout_key(one) == holdout_key(other)


@pytest.mark.parametrize(("one", "other"), OTHER_KEY.values(), ids=OTHER_KEY.keys())
def test_records_that_differ_have_other_keys(one: Record, other: Record) -> None:
    assert holdout_key(one) != holdout_key(other)


def test_keys_stay_what_they_are() -> None:
    # a changed hash would move records between training and validation of runs that are compared
    assert holdout_key(Prompt("a:1", "Once upon a time")) == 11557713998473118590


orders = st.sets(st.integers(0, KEY_RANGE - 1), min_size=1).flatmap(
    lambda keys: st.tuples(st.just(sorted(keys)), st.permutations(sorted(keys)))
)


@given(orders, st.floats(0.01, 0.99))
def test_side_of_a_record_does_not_depend_on_the_order(
    orders: tuple[list[int], list[int]], fraction: float
) -> None:
    one, other = (dict(zip(keys, held_out(keys, fraction), strict=True)) for keys in orders)
    assert one == other


@given(st.lists(st.integers(0, KEY_RANGE - 1), min_size=1), st.floats(0.01, 0.99))
def test_something_is_always_held_out(keys: list[int], fraction: float) -> None:
    assert held_out(keys, fraction).any()


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_about_the_fraction_is_held_out(fraction: float) -> None:
    keys = [holdout_key(Prompt("a:1", f"prompt {number}")) for number in range(10_000)]
    assert held_out(keys, fraction).mean() == pytest.approx(fraction, abs=0.015)


def test_held_out_of_nothing_is_nothing() -> None:
    assert held_out([], 0.5).tolist() == []
    assert held_out([], 0.5).dtype == np.bool_
