"""The held-out judge: how positive a response reads, by a model that no training step ever saw.

A logistic regression on tf-idf words and word pairs, fitted on the judge split alone. It ranks 79 %
of held-out snippet pairs as their raters do when the means differ by one point or more, so it is a
second opinion and not the truth. Higher scores are more positive; 0 is undecided.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from movie_reviews.errors import ExampleError

LEAST_ABSOLUTE_MEAN = 0.25
"""Snippets with a mean rating nearer to 0 are left out: they have no clear sign to learn."""

_WORDS = r"(?u)\b\w[\w']*\b|[!?]"
"""What counts as a word: apostrophes belong to it, and ! and ? are words of their own."""


def score(prompts: Sequence[str], responses: Sequence[str], data_root: Path) -> list[float]:
    """Score each response by how positive it reads (log-odds); the prompts are not looked at.

    Args:
        prompts: One prompt per response; only its number is checked.
        responses: The texts to judge, without their prompts.
        data_root: Folder that holds `data/judge.jsonl` or `judge.jsonl`, in this order.
    """
    if len(prompts) != len(responses):
        message = f"{len(prompts)} prompts for {len(responses)} responses; give one prompt for each"
        raise ValueError(message)
    if not responses:
        return []
    model = _fitted(judge_file(Path(data_root)).resolve())
    return [float(value) for value in model.decision_function(list(responses))]


def judge_file(data_root: Path) -> Path:
    """Find `judge.jsonl` under the folder that the manifest's data paths are relative to."""
    candidates = (data_root / "data" / "judge.jsonl", data_root / "judge.jsonl")
    for path in candidates:
        if path.is_file():
            return path
    raise ExampleError(
        what=str(candidates[0]),
        problem="no such file, and no judge.jsonl beside it",
        fix="run `python -m movie_reviews.build` first",
    )


@lru_cache(maxsize=4)
def _fitted(path: Path) -> Pipeline:
    """Fit the judge once per process and file: a second of one CPU."""
    texts, positive = [], []
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if abs(record["mean"]) >= LEAST_ABSOLUTE_MEAN:
                texts.append(record["text"])
                positive.append(record["mean"] > 0)
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=_WORDS)
    return make_pipeline(words, LogisticRegression(C=3.0, max_iter=500)).fit(texts, positive)
