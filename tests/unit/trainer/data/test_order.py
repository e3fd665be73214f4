import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.order import BatchStream, Tail, epoch_order

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**31 - 1)


@given(sizes, seeds, st.integers(0, 5))
def test_epoch_order_visits_every_record_once(size: int, seed: int, epoch: int) -> None:
    order = epoch_order(size, seed, epoch)
    assert sorted(order.tolist()) == list(range(size))
    assert np.array_equal(order, epoch_order(size, seed, epoch))


def test_epoch_order_differs_between_epochs_and_seeds() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


@given(sizes, st.integers(1, 25), seeds)
def test_short_batches_visit_every_record_once_per_epoch(
    size: int, batch_size: int, seed: int
) -> None:
    stream = BatchStream(size, batch_size, seed=seed)
    for epoch in range(2):
        seen: list[int] = []
        while stream.epoch == epoch:
            batch = stream.next_batch()
            assert 0 < len(batch) <= batch_size
            seen += batch.tolist()
        assert sorted(seen) == list(range(size))


def test_short_batch_is_the_last_of_its_epoch() -> None:
    stream = BatchStream(10, 4, seed=0)
    assert [len(stream.next_batch()) for _ in range(6)] == [4, 4, 2, 4, 4, 2]


@given(sizes, st.integers(1, 150), seeds)
def test_next_epoch_fills_every_batch(size: int, batch_size: int, seed: int) -> None:
    stream = BatchStream(size, batch_size, seed=seed, tail=Tail.NEXT_EPOCH)
    batches = [stream.next_batch() for _ in range(4)]
    assert {len(batch) for batch in batches} == {batch_size}
    flat = np.concatenate(batches).tolist()
    for epoch, (start, end) in enumerate(pairwise(range(0, len(flat) + 1, size))):
        assert flat[start:end] == epoch_order(size, seed, epoch).tolist()


@given(sizes, st.integers(1, 70), st.sampled_from(Tail), st.integers(0, 12))
def test_restored_stream_goes_on_where_it_was(
    size: int, batch_size: int, tail: Tail, num_before: int
) -> None:
    stream = BatchStream(size, batch_size, seed=3, tail=tail)
    for _ in range(num_before):
        stream.next_batch()
    state = json.loads(json.dumps(stream.state()))
    resumed = BatchStream(size, batch_size, seed=3, tail=tail)
    resumed.restore(state)
    for _ in range(5):
        assert np.array_equal(stream.next_batch(), resumed.next_batch())
    assert stream.state() == resumed.state()


def test_restore_of_another_size_is_refused() -> None:
    state = BatchStream(10, 4, seed=0).state()
    with pytest.raises(ValueError, match="size=10: this stream has 11 records"):
        BatchStream(11, 4, seed=0).restore(state)


@pytest.mark.parametrize(("size", "batch_size"), [(0, 4), (4, 0)])
def test_stream_without_records_or_room_is_refused(size: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="both must be 1 or more"):
        BatchStream(size, batch_size, seed=0)
