from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.config.data import AgreementStatistic
from rlhf_trainer.data.agreement import (
    NUM_CATEGORIES,
    Ratings,
    cohen_kappa,
    fleiss_kappa,
    mean_cohen_kappa,
    measure_agreement,
    percent_agreement,
    rate,
)
from rlhf_trainer.data.records import Annotation, Choice, Comparison

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists each, 5 diagnoses. The digits of a word are the
# psychiatrists who made each diagnosis.
FLEISS_1971 = """
    00060 03003 01401 00006 03030 20400 00402 20310 20040 00006
    10050 11040 03300 10050 02031 00501 30012 51000 02040 10203
    00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""

Item = dict[int, int]
"""Category by rater."""
items = st.lists(
    st.dictionaries(st.integers(0, 4), st.integers(0, NUM_CATEGORIES - 1), min_size=1, max_size=5),
    max_size=8,
)


def ratings_of(items: list[Item]) -> Ratings:
    entries = [
        (number, rater, category)
        for number, item in enumerate(items)
        for rater, category in item.items()
    ]
    return Ratings(*np.array(entries, np.int64).reshape(-1, 3).T)


def comparison(number: int, *choices: str, chosen: str = "good") -> Comparison:
    annotations = tuple(
        Annotation(f"r{index}", Choice(choice)) for index, choice in enumerate(choices)
    )
    return Comparison(f"f:{number}", "", f"{chosen} {number}", f"bad {number}", annotations)


def test_fleiss_kappa_of_fleiss_1971_is_430() -> None:
    counts = np.array([[int(digit) for digit in word] for word in FLEISS_1971.split()])
    assert counts.sum(axis=0).tolist() == [26, 26, 30, 55, 43]
    assert fleiss_kappa(counts) == pytest.approx(0.430, abs=5e-4)
    assert percent_agreement(counts) == pytest.approx(0.5556, abs=5e-5)


def test_cohen_kappa_of_the_textbook_table_is_40() -> None:
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.40)


@pytest.mark.parametrize(
    ("confusion", "kappa"),
    [
        ([[5, 0], [0, 5]], 1.0),
        ([[0, 5], [5, 0]], -1.0),
        ([[4, 4], [4, 4]], 0.0),
        ([[9, 0], [1, 0]], 0.0),
    ],
    ids=["perfect", "opposite", "independent", "one rater never varies"],
)
def test_cohen_kappa_of_simple_tables(confusion: list[list[int]], kappa: float) -> None:
    assert cohen_kappa(np.array(confusion)) == pytest.approx(kappa)


@given(items)
def test_percent_agreement_equals_a_loop_over_pairs(items: list[Item]) -> None:
    pairs = [pair for item in items for pair in combinations(item.values(), 2)]
    expected = sum(one == other for one, other in pairs) / len(pairs) if pairs else None
    assert percent_agreement(ratings_of(items).counts()) == expected


@given(items)
def test_fleiss_kappa_equals_a_loop_over_items(items: list[Item]) -> None:
    rated = [list(item.values()) for item in items if len(item) > 1]
    shares = [
        float(np.mean([item.count(category) / len(item) for item in rated])) if rated else 0.0
        for category in range(NUM_CATEGORIES)
    ]
    result = fleiss_kappa(ratings_of(items).counts())
    if sum(share > 0 for share in shares) < 2:
        assert result is None
        return
    agreements = []
    for item in rated:
        pairs = list(combinations(item, 2))
        agreements.append(sum(one == other for one, other in pairs) / len(pairs))
    chance = sum(share**2 for share in shares)
    assert result == pytest.approx((np.mean(agreements) - chance) / (1 - chance))


@given(items)
def test_mean_cohen_kappa_equals_a_loop_over_raters(items: list[Item]) -> None:
    kappas, weights = [], []
    for one, other in combinations(range(5), 2):
        both = [(item[one], item[other]) for item in items if one in item and other in item]
        if len(both) < 2:
            continue
        observed = sum(a == b for a, b in both) / len(both)
        left, right = Counter(a for a, _ in both), Counter(b for _, b in both)
        chance = sum(left[c] * right[c] for c in range(NUM_CATEGORIES)) / len(both) ** 2
        if chance < 1:
            kappas.append((observed - chance) / (1 - chance))
            weights.append(len(both))
    value, num_pairs = mean_cohen_kappa(ratings_of(items))
    assert num_pairs == len(kappas)
    if kappas:
        assert value == pytest.approx(np.average(kappas, weights=weights))
    else:
        assert value is None


@pytest.mark.parametrize(
    ("items", "percent", "fleiss", "cohen"),
    [
        pytest.param([], None, None, None, id="nothing rated"),
        pytest.param([{0: 1}, {1: 2}], None, None, None, id="one rater per item"),
        pytest.param([{0: 1, 1: 1}] * 3, 1.0, None, None, id="one category only"),
        pytest.param([{0: 0, 1: 0}, {0: 1, 1: 1}], 1.0, 1.0, 1.0, id="perfect"),
        pytest.param([{0: 0, 1: 1}, {0: 1, 1: 0}], 0.0, -1.0, -1.0, id="opposite"),
    ],
)
def test_statistics_at_their_edges(
    items: list[Item], percent: float | None, fleiss: float | None, cohen: float | None
) -> None:
    ratings = ratings_of(items)
    assert percent_agreement(ratings.counts()) == percent
    assert fleiss_kappa(ratings.counts()) == fleiss
    assert mean_cohen_kappa(ratings)[0] == cohen


@given(st.lists(st.lists(st.sampled_from(Choice), min_size=2, max_size=4), min_size=1, max_size=6))
def test_agreement_does_not_depend_on_which_side_is_called_chosen(
    choices: list[list[Choice]],
) -> None:
    flip = {Choice.CHOSEN: Choice.REJECTED, Choice.REJECTED: Choice.CHOSEN, Choice.TIE: Choice.TIE}
    straight = [comparison(number, *row) for number, row in enumerate(choices)]
    swapped = [
        replace(
            item,
            chosen=item.rejected,
            rejected=item.chosen,
            annotations=tuple(replace(a, choice=flip[a.choice]) for a in item.annotations),
        )
        for item in straight
    ]
    for one, other in zip(vars_of(rate(straight)), vars_of(rate(swapped)), strict=True):
        assert np.array_equal(one, other)


def vars_of(ratings: Ratings) -> list[np.ndarray]:
    return [ratings.item, ratings.rater, ratings.category]


def test_kappa_of_unanimous_annotators_is_one_although_all_chose_chosen() -> None:
    agreement = measure_agreement(
        [comparison(number, "chosen", "chosen", "chosen") for number in range(40)]
    )
    assert agreement.fleiss_kappa == pytest.approx(1.0)
    assert agreement.cohen_kappa == pytest.approx(1.0)
    assert agreement.percent_agreement == 1.0


def test_kappa_of_random_annotators_is_near_zero() -> None:
    generator = np.random.default_rng(0)
    agreement = measure_agreement(
        [comparison(number, *generator.choice(["chosen", "rejected"], 3)) for number in range(2000)]
    )
    assert agreement.fleiss_kappa == pytest.approx(0.0, abs=0.05)
    assert agreement.cohen_kappa == pytest.approx(0.0, abs=0.05)
    assert agreement.percent_agreement == pytest.approx(0.5, abs=0.03)


def test_measure_agreement_counts_what_it_saw() -> None:
    agreement = measure_agreement(
        [
            comparison(0, "chosen", "chosen", "tie"),
            comparison(1, "rejected", "rejected", "chosen"),
            comparison(2, "rejected"),
            comparison(3, "chosen", "rejected"),
            comparison(4),
        ]
    )
    assert agreement.items == 3
    assert agreement.raters == 3
    assert agreement.ratings == 9
    assert agreement.percent_agreement == pytest.approx(2 / 7)
    assert agreement.tie_share == pytest.approx(1 / 9)
    assert agreement.overruled_share == pytest.approx(2 / 4)
    assert agreement.value(AgreementStatistic.PERCENT_AGREEMENT) == agreement.percent_agreement
    assert agreement.value(AgreementStatistic.COHEN_KAPPA) == agreement.cohen_kappa
    assert agreement.value(AgreementStatistic.FLEISS_KAPPA) == agreement.fleiss_kappa


def test_measure_agreement_without_annotators_is_undefined() -> None:
    agreement = measure_agreement([comparison(0), comparison(1)])
    assert agreement.to_json() == {
        "items": 0,
        "raters": 0,
        "ratings": 0,
        "percentAgreement": None,
        "cohenKappa": None,
        "cohenRaterPairs": 0,
        "fleissKappa": None,
        "tieShare": None,
        "overruledShare": None,
    }
