"""Comparisons: pairs within batches, real choices, and the negative control."""

from collections import Counter
from itertools import combinations

import pytest

from movie_reviews.comparisons import (
    Choice,
    Comparison,
    annotate,
    compare,
    pairs_across_batches,
    pairs_within_batches,
    swap_half,
)
from movie_reviews.corpus import Snippet


def snippet(name: str, *ratings: int, batch: int = 0) -> Snippet:
    return Snippet(name, f"text of {name}", ratings, batch)


def pairwise_agreement(comparisons: list[Comparison]) -> float:
    """Share of pairs of annotators of one comparison that chose the same."""
    agreed = [
        first.choice is second.choice
        for comparison in comparisons
        for first, second in combinations(comparison.annotations, 2)
    ]
    return sum(agreed) / len(agreed)


def test_annotate_choices_are_the_signs_of_each_raters_difference() -> None:
    comparison = compare(snippet("a", 3, 0, 1, batch=12), snippet("b", -1, 0, 2, batch=12))
    assert (comparison.chosen, comparison.rejected) == ("text of a", "text of b")
    assert [(a.annotator, a.choice) for a in comparison.annotations] == [
        ("b012-r00", Choice.CHOSEN),
        ("b012-r01", Choice.TIE),
        ("b012-r02", Choice.REJECTED),
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(snippet("b", 0, 0, batch=1), id="another-batch"),
        pytest.param(snippet("b", 0, 0, 0), id="another-panel"),
    ],
)
def test_annotate_different_raters_is_refused(other: Snippet) -> None:
    with pytest.raises(ValueError, match="not rated by the same people"):
        annotate(snippet("a", 2, 2), other)


def test_pairs_within_batches_better_first_and_a_point_apart() -> None:
    snippets = [snippet(f"s{i}", i % 5, i % 5, batch=i // 6) for i in range(24)]
    pairs = list(pairs_within_batches(snippets, uses_per_snippet=9, seed=0))
    assert len(pairs) > 10
    for better, worse in pairs:
        assert better.batch == worse.batch
        assert better.mean - worse.mean >= 1


def test_pairs_within_batches_use_no_snippet_too_often() -> None:
    snippets = [snippet(f"s{i}", i, i) for i in range(12)]
    pairs = list(pairs_within_batches(snippets, uses_per_snippet=2, seed=0))
    uses = Counter(s.id for pair in pairs for s in pair)
    assert max(uses.values()) == 2
    assert len(pairs) > 8


def test_pairs_within_batches_input_order_does_not_matter() -> None:
    snippets = [snippet(f"s{i}", i % 4, i % 4, batch=i % 3) for i in range(20)]
    forward = list(pairs_within_batches(snippets, uses_per_snippet=2, seed=1))
    assert list(pairs_within_batches(reversed(snippets), uses_per_snippet=2, seed=1)) == forward
    assert list(pairs_within_batches(snippets, uses_per_snippet=2, seed=2)) != forward


def test_pairs_across_batches_better_first_and_a_point_apart() -> None:
    snippets = [snippet(f"s{i}", i % 5, i % 5, batch=i // 6) for i in range(60)]
    pairs = list(pairs_across_batches(snippets, rounds=3, seed=0))
    assert len(pairs) > 20
    for better, worse in pairs:
        assert better.batch != worse.batch
        assert better.mean - worse.mean >= 1


def test_pairs_across_batches_one_use_a_round_and_no_pair_twice() -> None:
    snippets = [snippet(f"s{i}", i, i, batch=i) for i in range(16)]
    (*once,) = pairs_across_batches(snippets, rounds=1, seed=0)
    assert Counter(s.id for pair in once for s in pair) == Counter(s.id for s in snippets)
    often = [(a.id, b.id) for a, b in pairs_across_batches(snippets, rounds=40, seed=0)]
    assert len(often) == len(set(often)) > len(once)


def test_compare_across_batches_invents_no_annotations() -> None:
    comparison = compare(snippet("a", 3, 3, batch=1), snippet("b", 0, 0, batch=2))
    assert comparison == Comparison("text of a", "text of b", ())


def some_comparisons(count: int) -> list[Comparison]:
    return [
        compare(snippet(f"a{i}", 3, 2, i % 3, 1), snippet(f"b{i}", 0, 0, 1, 1))
        for i in range(count)
    ]


def test_swap_half_exchanges_exactly_half_of_the_texts() -> None:
    before = some_comparisons(21)
    after = swap_half(before, seed=3)
    exchanged = [
        (new.chosen, new.rejected) == (old.rejected, old.chosen)
        for old, new in zip(before, after, strict=True)
    ]
    assert sum(exchanged) == 10
    kept = [(old, new) for old, new in zip(before, after, strict=True) if old == new]
    assert len(kept) == 11


def test_swap_half_keeps_annotations_and_agreement() -> None:
    before = some_comparisons(20)
    after = swap_half(before, seed=3)
    assert [c.annotations for c in after] == [c.annotations for c in before]
    assert pairwise_agreement(after) == pairwise_agreement(before)


def test_swap_half_is_decided_by_the_seed() -> None:
    comparisons = some_comparisons(20)
    assert swap_half(comparisons, seed=3) == swap_half(comparisons, seed=3)
    assert swap_half(comparisons, seed=3) != swap_half(comparisons, seed=4)
