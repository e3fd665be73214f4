"""Openings and the word filter."""

import codecs

import pytest

from movie_reviews.profanity import is_profane
from movie_reviews.prompts import LEAST_REMAINING_WORDS, OPENING_WORDS, opening_of, openings

SENTENCES = [f"made up sentence number {i} has eleven plain words in it" for i in range(40)]


def test_opening_of_is_whole_words_of_its_text() -> None:
    lengths = set()
    for sentence in SENTENCES:
        opening = opening_of(sentence)
        assert opening is not None
        assert sentence.startswith(opening + " ")
        lengths.add(len(opening.split()))
    assert lengths <= set(OPENING_WORDS)
    assert len(lengths) > 1


def test_opening_of_short_text_is_none() -> None:
    short = " ".join(["word"] * (min(OPENING_WORDS) + LEAST_REMAINING_WORDS - 1))
    assert opening_of(short) is None


def test_openings_are_unique_and_in_order() -> None:
    found = openings([*SENTENCES, *SENTENCES, "too short"])
    assert found == list(dict.fromkeys(filter(None, map(opening_of, SENTENCES))))


@pytest.mark.parametrize(
    ("text_rot13", "profane"),
    [
        pytest.param("jung n ybnq bs penc", True, id="whole-word"),
        pytest.param("n Ohyyfuvggre gnyxf", True, id="stem-and-case"),
        pytest.param("pynffvp pnfg va n pbpxgnvy one", False, id="polite-look-alikes"),
        pytest.param("gur nffnffva nffhzrf n gvgyr", False, id="words-that-begin-like-one"),
    ],
)
def test_is_profane_cases(text_rot13: str, *, profane: bool) -> None:
    assert is_profane(codecs.decode(text_rot13, "rot13")) is profane
