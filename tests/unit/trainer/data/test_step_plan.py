"""Every row of an update belongs to one rank and one micro-batch, whatever the numbers are."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.order import BatchStream, Tail
from rlhf_trainer.data.step_plan import plan_step

lengths_lists = st.lists(st.integers(1, 40), max_size=40)
world_sizes = st.integers(1, 4)
budgets = st.integers(1, 120)


def plans(
    lengths: list[int], world_size: int, *, budget_tokens: int = 50, packing: bool = False
) -> list[list[list[int]]]:
    return [
        plan_step(
            lengths,
            budget_tokens=budget_tokens,
            rank=rank,
            world_size=world_size,
            packing=packing,
        )
        for rank in range(world_size)
    ]


def rows_of(plan: list[list[int]]) -> list[int]:
    return [row for micro_batch in plan for row in micro_batch]


@given(lengths=lengths_lists, world_size=world_sizes, budget=budgets, packing=st.booleans())
def test_ranks_share_every_row_once_in_equally_many_micro_batches(
    *, lengths: list[int], world_size: int, budget: int, packing: bool
) -> None:
    by_rank = plans(lengths, world_size, budget_tokens=budget, packing=packing)
    assert sorted(chain(*map(rows_of, by_rank))) == list(range(len(lengths)))
    shares = [len(rows_of(plan)) for plan in by_rank]
    assert max(shares) - min(shares) <= 1
    assert len({len(plan) for plan in by_rank}) == 1
    for micro_batch in chain(*by_rank):
        costs = [lengths[row] for row in micro_batch]
        cost = sum(costs) if packing else len(costs) * max(costs, default=0)
        assert cost <= budget or len(micro_batch) == 1


@given(lengths_lists, world_sizes)
def test_ranks_have_about_the_same_work(lengths: list[int], world_size: int) -> None:
    """Dealt out by length, two ranks differ by less than one longest row."""
    tokens = [sum(lengths[row] for row in rows_of(plan)) for plan in plans(lengths, world_size)]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@given(lengths_lists, world_sizes)
def test_packing_takes_no_more_micro_batches(lengths: list[int], world_size: int) -> None:
    packed = plans(lengths, world_size, packing=True)
    assert len(packed[0]) <= len(plans(lengths, world_size)[0])


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 25),
    tail=st.sampled_from(Tail),
    seed=st.integers(0, 2**31 - 1),
    packing=st.booleans(),
)
def test_every_record_is_trained_on_once_per_epoch_by_one_rank(
    *, world_size: int, size: int, batch_size: int, tail: Tail, seed: int, packing: bool
) -> None:
    """Each rank has a stream of its own, as in a run; tails are as uneven as they come."""
    streams = [BatchStream(size, batch_size, seed=seed, tail=tail) for _ in range(world_size)]
    lengths = [1 + row * 7 % 40 for row in range(size)]
    trained: list[int] = []
    for _ in range(2 * -(-size // batch_size)):
        shares = []
        for rank, stream in enumerate(streams):
            batch = stream.next_batch().tolist()
            plan = plans([lengths[row] for row in batch], world_size, packing=packing)[rank]
            shares.append(rows_of(plan))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        trained += [batch[index] for index in sorted(chain(*shares))]
    assert len({tuple(stream.state().items()) for stream in streams}) == 1
    for epoch in range(2):
        visited = trained[epoch * size : (epoch + 1) * size]
        assert Counter(visited) == Counter(range(size))
