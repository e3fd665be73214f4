import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.models.batch import batched, collate, ended, pack, response_mask

CPU = torch.device("cpu")


def test_collate_marks_the_position_before_each_response_token() -> None:
    batch = collate(
        [np.array([5, 6, 7, 8]), np.array([9, 10])],
        [np.array([False, False, True, True]), np.array([False, True])],
        CPU,
    )
    assert batch.tokens_BT.tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert batch.predict_N.tolist() == [1, 2, 4]
    assert batch.target_N.tolist() == [7, 8, 10]
    assert batch.last_B.tolist() == [3, 5]
    assert batch.counts == (2, 1)


def test_collate_never_predicts_a_first_token() -> None:
    batch = collate([np.array([5, 6])], [np.array([True, True])], CPU)
    assert batch.target_N.tolist() == [6]


def test_collate_of_nothing_is_one_pad_without_targets() -> None:
    batch = collate([], [], CPU)
    assert batch.tokens_BT.shape == (1, 1)
    assert len(batch.target_N) == 0


def test_last_tokens_are_left_out_where_they_are_targets_only() -> None:
    sequences = [np.array([5, 6, 7, 8]), np.array([9, 10]), np.array([3])]
    masks = [response_mask(2, 4), response_mask(1, 2), response_mask(1, 1)]
    padded = collate(sequences, masks, CPU, whole=False)
    assert padded.tokens_BT.tolist() == [[5, 6, 7], [9, 0, 0], [3, 0, 0]]
    assert padded.last_B.tolist() == [2, 3, 6]
    packed = pack(sequences, masks, CPU, whole=False)
    assert packed.tokens_BT.tolist() == [[5, 6, 7, 9, 3]]
    assert packed.last_B.tolist() == [2, 3, 4]
    assert packed.positions_BT is not None
    assert packed.positions_BT.tolist() == [[0, 1, 2, 0, 0]]
    for batch in (padded, packed):
        assert batch.predict_N.tolist() == [1, 2, 3]
        assert batch.target_N.tolist() == [7, 8, 10]
        assert batch.counts == (2, 1, 0)


def test_split_returns_values_row_by_row() -> None:
    batch = collate(
        [np.array([5, 6, 7]), np.array([9]), np.array([1, 2])],
        [response_mask(1, 3), response_mask(1, 1), response_mask(1, 2)],
        CPU,
    )
    pieces = batch.split(torch.tensor([1.0, 2.0, 3.0]))
    assert [piece.tolist() for piece in pieces] == [[1.0, 2.0], [], [3.0]]


def test_pack_is_one_row_in_which_positions_restart() -> None:
    batch = pack(
        [np.array([5, 6, 7, 8]), np.array([9, 10])],
        [np.array([False, False, True, True]), np.array([False, True])],
        CPU,
    )
    assert batch.tokens_BT.tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch.positions_BT is not None
    assert batch.positions_BT.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.predict_N.tolist() == [1, 2, 4]
    assert batch.target_N.tolist() == [7, 8, 10]
    assert batch.last_B.tolist() == [3, 5]
    assert batch.counts == (2, 1)


@given(st.lists(st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1)))
def test_pack_and_collate_point_at_the_same_tokens(rows: list[list[tuple[int, bool]]]) -> None:
    sequences = [np.array([token for token, _ in row]) for row in rows]
    masks = [np.array([marked for _, marked in row], np.bool_) for row in rows]
    padded = collate(sequences, masks, CPU)
    packed = pack(sequences, masks, CPU)
    assert packed.tokens_BT.numel() == max(sum(map(len, rows)), 1)
    assert packed.counts == padded.counts
    assert packed.target_N.tolist() == padded.target_N.tolist()
    for name in ("predict_N", "last_B"):
        there, here = getattr(padded, name), getattr(packed, name)
        assert (
            packed.tokens_BT.flatten()[here].tolist() == padded.tokens_BT.flatten()[there].tolist()
        )
        assert packed.positions_BT is not None
        columns = there % padded.tokens_BT.shape[1]
        assert packed.positions_BT.flatten()[here].tolist() == columns.tolist()


@pytest.mark.parametrize("packing", [True, False])
def test_batched_packs_where_packing_is_on(*, packing: bool) -> None:
    sequences = [np.array([5, 6]), np.array([7])]
    masks = [response_mask(1, 2), response_mask(1, 1)]
    batch = batched(sequences, masks, CPU, packing=packing)
    assert batch.tokens_BT.tolist() == ([[5, 6, 7]] if packing else [[5, 6], [7, 0]])
    assert (batch.positions_BT is not None) == packing


def test_reward_models_read_every_sequence_at_the_same_token() -> None:
    assert ended(np.array([5, 6, 2]), 2).tolist() == [5, 6, 2]
    assert ended(np.array([5, 6, 7]), 2).tolist() == [5, 6, 7, 2]


def test_sequence_that_was_cut_gives_its_last_token_for_the_end() -> None:
    assert ended(np.array([5, 6, 7]), 2, maximum_tokens=3).tolist() == [5, 6, 2]
    assert ended(np.array([5, 6]), 2, maximum_tokens=3).tolist() == [5, 6, 2]
    assert ended(np.array([5, 6, 2]), 2, maximum_tokens=3).tolist() == [5, 6, 2]
