"""Hash ordering: stable, and different under every seed."""

from itertools import pairwise

from movie_reviews.ordering import shuffle_key


def test_shuffle_key_depends_on_every_part() -> None:
    keys = {shuffle_key(*parts) for parts in [(0, "a"), (1, "a"), (0, "b"), ("0", "a")]}
    assert len(keys) == 3
    assert shuffle_key(17, "a").hex().startswith("e46d33")


def test_shuffle_key_neighbours_under_one_seed_part_under_another() -> None:
    def neighbours(seed: int) -> set[frozenset[int]]:
        ordered = sorted(range(500), key=lambda number: shuffle_key(seed, number))
        return set(map(frozenset, pairwise(ordered)))

    assert len(neighbours(0) & neighbours(1)) < 15
