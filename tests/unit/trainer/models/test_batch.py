import numpy as np
import torch

from rlhf_trainer.models.batch import collate, response_mask

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


def test_split_returns_values_row_by_row() -> None:
    batch = collate(
        [np.array([5, 6, 7]), np.array([9]), np.array([1, 2])],
        [response_mask(1, 3), response_mask(1, 1), response_mask(1, 2)],
        CPU,
    )
    pieces = batch.split(torch.tensor([1.0, 2.0, 3.0]))
    assert [piece.tolist() for piece in pieces] == [[1.0, 2.0], [], [3.0]]
