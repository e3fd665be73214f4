"""How far annotators agree: percent agreement, Cohen's kappa, Fleiss' kappa.

`chosen` is what most annotators chose, so on the categories chosen, rejected and tie nearly all
ratings would be "chosen": chance alone would agree almost always, and kappa would be near 0
whatever the annotators did (Feinstein and Cicchetti 1990 call it the first paradox). Categories are
therefore taken relative to an order that does not know the answer: of the two responses, the one
with the smaller hash is "first". A hash, because alphabetical order may go with quality.

Decided here: the statistics. What agreement is enough is decided elsewhere. A statistic is None
where it is undefined: without ratings to compare, or where a single category leaves nothing but
chance.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic.alias_generators import to_camel

from rlhf_trainer.config.data import AgreementStatistic
from rlhf_trainer.data.records import Choice, Comparison, digest

FIRST, SECOND, TIE = range(3)
"""Categories of a rating, relative to the order of the responses' hashes."""
NUM_CATEGORIES = 3

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Ratings:
    """Who chose what: one entry per rating, items and raters numbered from 0."""

    item: IntArray
    rater: IntArray
    category: IntArray

    def counts(self) -> IntArray:
        """Return how many raters put each item into each category, [items, categories]."""
        num_items = int(self.item.max(initial=-1)) + 1
        flat = np.bincount(
            self.item * NUM_CATEGORIES + self.category, minlength=num_items * NUM_CATEGORIES
        )
        return flat.reshape(num_items, NUM_CATEGORIES)


@dataclass(frozen=True)
class Agreement:
    """What annotators of one data set agree on."""

    items: int
    """Comparisons with two raters or more: what the statistics are made of."""
    raters: int
    ratings: int
    percent_agreement: float | None
    cohen_kappa: float | None
    cohen_rater_pairs: int
    """Pairs of raters whose kappa is defined: the mean is over these."""
    fleiss_kappa: float | None
    tie_share: float | None
    """Share of ratings that are ties."""
    overruled_share: float | None
    """Share of rated comparisons in which more annotators chose `rejected` than `chosen`."""

    def value(self, statistic: AgreementStatistic) -> float | None:
        """Return one statistic."""
        match statistic:
            case AgreementStatistic.PERCENT_AGREEMENT:
                return self.percent_agreement
            case AgreementStatistic.COHEN_KAPPA:
                return self.cohen_kappa
            case AgreementStatistic.FLEISS_KAPPA:
                return self.fleiss_kappa
            case _:
                assert_never(statistic)

    def to_json(self) -> dict[str, float | None]:
        """Return the fields in camelCase."""
        return {to_camel(name): value for name, value in asdict(self).items()}


def measure_agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """Measure how far the annotators of `comparisons` agree."""
    ratings = rate(comparisons)
    counts = ratings.counts()
    cohen, num_pairs = mean_cohen_kappa(ratings)
    num_ratings = len(ratings.item)
    return Agreement(
        items=int((counts.sum(axis=1) > 1).sum()),
        raters=len(np.unique(ratings.rater)),
        ratings=num_ratings,
        percent_agreement=percent_agreement(counts),
        cohen_kappa=cohen,
        cohen_rater_pairs=num_pairs,
        fleiss_kappa=fleiss_kappa(counts),
        tie_share=float(counts[:, TIE].sum()) / num_ratings if num_ratings else None,
        overruled_share=_overruled_share(comparisons),
    )


def rate(comparisons: Sequence[Comparison]) -> Ratings:
    """Return the annotators' choices relative to the order of the responses' hashes."""
    numbers: dict[str, int] = {}
    entries: list[tuple[int, int, int]] = []
    annotated = (comparison for comparison in comparisons if comparison.annotations)
    for item, comparison in enumerate(annotated):
        chosen_first = digest((comparison.prompt, comparison.chosen)) < digest(
            (comparison.prompt, comparison.rejected)
        )
        for annotation in comparison.annotations:
            rater = numbers.setdefault(annotation.annotator, len(numbers))
            if annotation.choice is Choice.TIE:
                category = TIE
            else:
                is_first = (annotation.choice is Choice.CHOSEN) == chosen_first
                category = FIRST if is_first else SECOND
            entries.append((item, rater, category))
    columns = np.array(entries, np.int64).reshape(-1, 3).T
    return Ratings(*columns)


def percent_agreement(counts: IntArray) -> float | None:
    """Return the share of agreeing pairs among all pairs of raters of the same item.

    counts: [items, categories], ratings. Every pair counts the same, so items with many raters
    weigh more.
    """
    raters = counts.sum(axis=1)
    pairs = int((raters * (raters - 1)).sum())
    return int((counts * (counts - 1)).sum()) / pairs if pairs else None


def fleiss_kappa(counts: IntArray) -> float | None:
    """Return Fleiss' kappa (Psychological Bulletin 76, 1971, equations 1 to 7).

    counts: [items, categories], ratings. For a varying number of raters, observed agreement and the
    categories' shares are both means over the items with two raters or more, so that each such item
    weighs the same (Gwet, Handbook of Inter-Rater Reliability, 2014); with a fixed number that is
    Fleiss' own.
    """
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        return None
    raters = counts.sum(axis=1, keepdims=True)
    observed = float(((counts * (counts - 1)) / (raters * (raters - 1))).sum(axis=1).mean())
    shares = (counts / raters).mean(axis=0)
    if np.count_nonzero(shares) == 1:
        return None
    chance = float((shares**2).sum())
    return (observed - chance) / (1 - chance)


def mean_cohen_kappa(ratings: Ratings) -> tuple[float | None, int]:
    """Return the mean of Cohen's kappa over pairs of raters, and over how many pairs it is.

    A pair counts if it shares two items or more, weighted by their number: most pairs of a crowd
    share few items, and their kappas scatter. A pair that used one and the same category throughout
    has no kappa and is left out.
    """
    confusions = _pair_confusions(ratings)
    shared = confusions.sum(axis=(1, 2))
    chance = (confusions.sum(axis=2) * confusions.sum(axis=1)).sum(axis=1)
    defined = (shared > 1) & (chance < shared**2)
    if not defined.any():
        return None, 0
    kappas = [cohen_kappa(confusion) for confusion in confusions[defined]]
    return float(np.average(np.array(kappas), weights=shared[defined])), len(kappas)


def cohen_kappa(confusion: IntArray) -> float:
    """Return kappa of two raters (Cohen 1960, equation 1).

    confusion: [categories, categories], items by the first and the second rater's category; at
    least two categories must occur.
    """
    num_items = int(confusion.sum())
    agreed = int(np.trace(confusion))
    chance = int(confusion.sum(axis=1) @ confusion.sum(axis=0))
    return (num_items * agreed - chance) / (num_items**2 - chance)


def _pair_confusions(ratings: Ratings) -> IntArray:
    """Return one confusion matrix for each pair of raters that shares an item."""
    order = np.lexsort((ratings.rater, ratings.item))
    rater, category = ratings.rater[order], ratings.category[order]
    _, starts, sizes = np.unique(ratings.item[order], return_index=True, return_counts=True)
    num_raters = int(rater.max(initial=0)) + 1
    pairs, cells = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes):
        left, right = np.triu_indices(size, k=1)
        rows = starts[sizes == size][:, None]
        one, other = rows + left, rows + right
        pairs.append((rater[one] * num_raters + rater[other]).ravel())
        cells.append((category[one] * NUM_CATEGORIES + category[other]).ravel())
    distinct, pair = np.unique(np.concatenate(pairs), return_inverse=True)
    num_cells = NUM_CATEGORIES**2
    flat = np.bincount(
        pair * num_cells + np.concatenate(cells), minlength=len(distinct) * num_cells
    )
    return flat.reshape(-1, NUM_CATEGORIES, NUM_CATEGORIES)


def _overruled_share(comparisons: Sequence[Comparison]) -> float | None:
    votes = [
        Counter(annotation.choice for annotation in comparison.annotations)
        for comparison in comparisons
        if comparison.annotations
    ]
    overruled = sum(vote[Choice.REJECTED] > vote[Choice.CHOSEN] for vote in votes)
    return overruled / len(votes) if votes else None
