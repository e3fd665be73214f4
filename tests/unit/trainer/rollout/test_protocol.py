"""The draws of a rollout belong to its rows, not to who samples them."""

import numpy as np
import pytest

from rlhf_trainer.rollout.protocol import row_uniforms

ROWS, TOKENS = 7, 5


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_draws_of_a_row_are_the_same_for_any_number_of_ranks(world_size: int) -> None:
    alone = row_uniforms(0, 3, range(ROWS), TOKENS)
    for rank in range(min(world_size, ROWS)):
        mine = range(rank, ROWS, world_size)
        assert np.array_equal(row_uniforms(0, 3, mine, TOKENS), alone[rank::world_size])


def test_draws_differ_between_rows_steps_and_seeds() -> None:
    draws = [row_uniforms(seed, step, range(ROWS), TOKENS) for seed in (0, 1) for step in (0, 1)]
    rows = {tuple(row.tolist()) for draw in draws for row in draw}
    assert len(rows) == 4 * ROWS
