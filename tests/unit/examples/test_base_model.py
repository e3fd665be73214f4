"""Training the base model: which texts it reads, how they are cut, and how the rate moves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from movie_reviews import base_model
from movie_reviews.base_model import Recipe, rate_factor, read_texts, windows
from movie_reviews.corpus import MOVIES, Snippet, Split, split_of


def snippets(prefix: str) -> list[Snippet]:
    return [
        Snippet(str(number), f"{prefix} {number} is a line that nobody wrote", (number % 3,), 0)
        for number in range(60)
    ]


def test_read_texts_trains_on_no_text_of_another_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_corpus(_source: Path, stem: str) -> list[Snippet]:
        # The other corpora repeat every movie snippet: copies of held-out ones must not slip in.
        return snippets("movie") if stem == MOVIES else snippets(stem) + snippets("movie")

    monkeypatch.setattr(base_model, "read_corpus", read_corpus)
    texts = read_texts(Path("unused"))
    splits = {split: set[str]() for split in Split}
    for snippet in snippets("movie"):
        splits[split_of(snippet.id)].add(snippet.text)
    assert set(texts.movies) == splits[Split.TRAIN]
    assert set(texts.held_out) == splits[Split.VALIDATION] | splits[Split.TEST]
    assert len(texts.others) == 3 * 60
    assert not any(text.startswith("movie") for text in texts.others)


def test_windows_every_token_but_the_first_is_a_target_once() -> None:
    sequences = [[1, 10 + number, 2] for number in range(17)]
    rows = windows(sequences, Recipe(window=5), np.random.default_rng(0))
    assert rows.shape == (10, 6)
    targets = rows[:, 1:].flatten()
    assert torch.equal(rows[1:, 0], rows[:-1, -1])
    assert len({int(token) for token in targets if token >= 10}) == int((targets >= 10).sum())


def test_windows_follow_the_generator() -> None:
    sequences = [[1, 10 + number, 2] for number in range(17)]

    def made(seed: int) -> list[list[int]]:
        rows: list[list[int]] = windows(
            sequences, Recipe(window=5), np.random.default_rng(seed)
        ).tolist()
        return rows

    assert made(0) == made(0) != made(1)


def test_rate_factor_warms_up_and_falls() -> None:
    recipe = Recipe(steps=100, warmup_steps=10)
    rates = [rate_factor(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == max(rates[8:12])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0.02 <= rates[-1] < 0.03
