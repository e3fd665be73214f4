"""Turn rated snippets into comparisons: by the same raters where that is known, else by means.

A rater compared two snippets only if the same person rated both, which is known within a batch of
30 items. Those comparisons carry annotations: each person's choice is the sign of the difference of
that person's two ratings. The file is sorted by polarity, though, so that within a batch a snippet
meets its like; the pairs that tell praise from blame lie across batches. Those are ordered by the
means of two panels and carry no annotations, as nobody rated both sides.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, groupby

from movie_reviews.corpus import Snippet
from movie_reviews.ordering import shuffle_key

MINIMUM_DIFFERENCE = 1.0
"""Least difference of two means, in rating points: below it raters agree little (kappa < 0.6)."""


class Choice(StrEnum):
    """Which side of a comparison one annotator prefers."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    TIE = "tie"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One person's choice. Names are made of batch and column: no person spans two batches."""

    annotator: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two snippets, the one with the higher mean first, and the choices of those who rated both."""

    chosen: str
    rejected: str
    annotations: tuple[Annotation, ...]


def pairs_within_batches(
    snippets: Iterable[Snippet], *, uses_per_snippet: int, seed: int
) -> Iterator[tuple[Snippet, Snippet]]:
    """Yield (better, worse) pairs of one batch each, no snippet more often than allowed.

    Candidates are visited in a hashed order, so the choice among them follows neither the position
    in the file nor the size of the difference.
    """
    by_batch = sorted(snippets, key=lambda snippet: (snippet.batch, snippet.id))
    for _batch, members in groupby(by_batch, key=lambda snippet: snippet.batch):
        uses: Counter[str] = Counter()
        for first, second in sorted(
            combinations(members, 2), key=lambda pair: shuffle_key(seed, pair[0].id, pair[1].id)
        ):
            if not far_apart(first, second):
                continue
            if max(uses[first.id], uses[second.id]) >= uses_per_snippet:
                continue
            uses.update((first.id, second.id))
            yield better_first(first, second)


def pairs_across_batches(
    snippets: Iterable[Snippet], *, rounds: int, seed: int
) -> Iterator[tuple[Snippet, Snippet]]:
    """Yield (better, worse) pairs of two batches each, no snippet more than once in a round."""
    everything = list(snippets)
    seen: set[tuple[str, str]] = set()
    for number in range(rounds):
        mixed = sorted(everything, key=lambda item: shuffle_key(seed, number, item.id))
        for first, second in zip(mixed[::2], mixed[1::2], strict=False):
            if first.batch == second.batch or not far_apart(first, second):
                continue
            better, worse = better_first(first, second)
            if (better.id, worse.id) not in seen:
                seen.add((better.id, worse.id))
                yield better, worse


def far_apart(first: Snippet, second: Snippet) -> bool:
    """Return whether the means differ enough for the order to be worth learning."""
    return abs(first.mean - second.mean) >= MINIMUM_DIFFERENCE


def better_first(first: Snippet, second: Snippet) -> tuple[Snippet, Snippet]:
    """Put the snippet with the higher mean rating first."""
    return (first, second) if first.mean > second.mean else (second, first)


def compare(better: Snippet, worse: Snippet) -> Comparison:
    """Make a comparison, with the choices of everybody who is known to have rated both sides."""
    annotations = annotate(better, worse) if better.batch == worse.batch else ()
    return Comparison(better.text, worse.text, annotations)


def annotate(better: Snippet, worse: Snippet) -> tuple[Annotation, ...]:
    """Read each rater's choice from the rating lists of one batch, column by column."""
    if better.batch != worse.batch or len(better.ratings) != len(worse.ratings):
        message = f"snippets {better.id} and {worse.id} were not rated by the same people"
        raise ValueError(message)
    return tuple(
        Annotation(f"b{better.batch:03d}-r{column:02d}", _choice(high, low))
        for column, (high, low) in enumerate(zip(better.ratings, worse.ratings, strict=True))
    )


def _choice(better_rating: int, worse_rating: int) -> Choice:
    if better_rating == worse_rating:
        return Choice.TIE
    return Choice.CHOSEN if better_rating > worse_rating else Choice.REJECTED


def swap_half(comparisons: Sequence[Comparison], *, seed: int) -> list[Comparison]:
    """Exchange the texts of exactly half of the comparisons; the annotations keep their labels.

    A negative control: agreement between annotators stays what it was, while the labels no longer
    say which text is better.
    """
    ranked = sorted(range(len(comparisons)), key=lambda index: shuffle_key("swap", seed, index))
    swapped = set(ranked[: len(comparisons) // 2])
    return [
        replace(item, chosen=item.rejected, rejected=item.chosen) if index in swapped else item
        for index, item in enumerate(comparisons)
    ]
