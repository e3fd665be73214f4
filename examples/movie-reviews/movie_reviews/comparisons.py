"""Turn rated snippets into comparisons whose annotators are real.

A rater compared two snippets only if the same person rated both. That is known within a batch, so
pairs are made within batches: each annotator's choice is the sign of the difference of that
person's two ratings. `chosen` is the snippet with the higher mean.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, groupby

from movie_reviews.corpus import Snippet

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
    """Two snippets, the better one first, and what each rater of their batch chose."""

    chosen: str
    rejected: str
    annotations: tuple[Annotation, ...]


def make_pairs(
    snippets: Iterable[Snippet], *, uses_per_snippet: int, seed: int
) -> Iterator[tuple[Snippet, Snippet]]:
    """Yield (better, worse) pairs within batches, no snippet in more than `uses_per_snippet`.

    Candidates are visited in the order of a hash, so the choice among them follows neither the
    position in the file nor the size of the difference.
    """
    by_batch = sorted(snippets, key=lambda snippet: (snippet.batch, snippet.id))
    for _batch, members in groupby(by_batch, key=lambda snippet: snippet.batch):
        uses: Counter[str] = Counter()
        for first, second in sorted(
            combinations(members, 2),
            key=lambda pair: zlib.crc32(f"{seed}:{pair[0].id}:{pair[1].id}".encode()),
        ):
            if abs(first.mean - second.mean) < MINIMUM_DIFFERENCE:
                continue
            if max(uses[first.id], uses[second.id]) >= uses_per_snippet:
                continue
            uses.update((first.id, second.id))
            yield (first, second) if first.mean > second.mean else (second, first)


def annotate(better: Snippet, worse: Snippet) -> Comparison:
    """Read each rater's choice from the two rating lists, column by column."""
    if better.batch != worse.batch or len(better.ratings) != len(worse.ratings):
        message = f"snippets {better.id} and {worse.id} were not rated by the same people"
        raise ValueError(message)
    annotations = tuple(
        Annotation(f"b{better.batch:03d}-r{column:02d}", _choice(high, low))
        for column, (high, low) in enumerate(zip(better.ratings, worse.ratings, strict=True))
    )
    return Comparison(better.text, worse.text, annotations)


def _choice(better_rating: int, worse_rating: int) -> Choice:
    if better_rating == worse_rating:
        return Choice.TIE
    return Choice.CHOSEN if better_rating > worse_rating else Choice.REJECTED


def swap_half(comparisons: Sequence[Comparison], *, seed: int) -> list[Comparison]:
    """Exchange the texts of exactly half of the comparisons; the annotations keep their labels.

    A negative control: agreement between annotators stays what it was, while the labels no longer
    say which text is better.
    """
    ranked = sorted(
        range(len(comparisons)), key=lambda index: zlib.crc32(f"swap:{seed}:{index}".encode())
    )
    swapped = set(ranked[: len(comparisons) // 2])
    return [
        replace(item, chosen=item.rejected, rejected=item.chosen) if index in swapped else item
        for index, item in enumerate(comparisons)
    ]
