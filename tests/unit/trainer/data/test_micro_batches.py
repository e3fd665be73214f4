from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.micro_batches import equalise, token_budget_micro_batches

lengths_lists = st.lists(st.integers(0, 40), max_size=40)


@pytest.mark.parametrize(
    ("lengths", "budget", "batches"),
    [
        pytest.param([], 10, [], id="nothing"),
        pytest.param([3, 5, 4], 10, [[1, 2], [0]], id="longest first"),
        pytest.param([2, 2, 2, 2], 4, [[0, 1], [2, 3]], id="equal lengths keep their order"),
        pytest.param([20, 1, 1], 10, [[0], [1, 2]], id="too long stands alone"),
        pytest.param([20, 30], 10, [[1], [0]], id="all too long"),
        pytest.param([5, 5], 10, [[0, 1]], id="exactly the budget"),
        pytest.param([5, 5], 9, [[0], [1]], id="one over the budget"),
        pytest.param([6, 1, 1, 1], 12, [[0, 1], [2, 3]], id="padding counts"),
    ],
)
def test_micro_batches_of_small_cases(
    lengths: list[int], budget: int, batches: list[list[int]]
) -> None:
    assert token_budget_micro_batches(lengths, budget) == batches


@given(lengths_lists, st.integers(1, 100))
def test_micro_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    batches = token_budget_micro_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[row] for row in batch)
        assert padded <= budget or len(batch) == 1
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat, reverse=True)


@given(lengths_lists, st.integers(1, 100))
def test_micro_batches_waste_no_room(lengths: list[int], budget: int) -> None:
    batches = token_budget_micro_batches(lengths, budget)
    for batch, following in pairwise(batches):
        longest = lengths[batch[0]]
        assert (len(batch) + 1) * longest > budget
        assert lengths[following[0]] <= longest


def test_packed_micro_batches_cost_their_sum() -> None:
    lengths = [6, 1, 1, 1, 3]
    assert token_budget_micro_batches(lengths, 12) == [[0, 4], [1, 2, 3]]
    assert token_budget_micro_batches(lengths, 12, packing=True) == [[0, 4, 1, 2, 3]]
    assert token_budget_micro_batches(lengths, 11, packing=True) == [[0, 4, 1, 2], [3]]


@given(lengths_lists, st.integers(1, 100))
def test_packed_micro_batches_hold_every_row_once_and_waste_no_room(
    lengths: list[int], budget: int
) -> None:
    batches = token_budget_micro_batches(lengths, budget, packing=True)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert sum(lengths[row] for row in batch) <= budget or len(batch) == 1
    for batch, following in pairwise(batches):
        assert sum(lengths[row] for row in [*batch, following[0]]) > budget


def test_equalise_adds_empty_batches() -> None:
    assert equalise([[0, 1], [2]], 4) == [[0, 1], [2], [], []]
    assert equalise([], 1) == [[]]


def test_equalise_to_fewer_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="count=1: fewer than the 2 batches to keep"):
        equalise([[0], [1]], 1)
