"""The held-out judge, fitted on a few made-up texts."""

import json
from pathlib import Path

import pytest

from movie_reviews.errors import ExampleError
from movie_reviews.judge import judge_file, score

GOOD = ("splendid warm tale", "warm and splendid", "a splendid evening", "warm bright tale")
BAD = ("dreary stale mess", "stale and dreary", "a dreary evening", "stale loud mess")


def write_judge(path: Path) -> Path:
    records = [{"text": t, "mean": 2.0} for t in GOOD] + [{"text": t, "mean": -2.0} for t in BAD]
    records.append({"text": "dreary splendid", "mean": 0.1})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_score_higher_is_more_positive(tmp_path: Path) -> None:
    write_judge(tmp_path / "data" / "judge.jsonl")
    good, bad, unknown = score(["it was"] * 3, ["splendid and warm", "stale mess", "zzz"], tmp_path)
    assert good > unknown > bad


def test_score_looks_at_the_response_only(tmp_path: Path) -> None:
    write_judge(tmp_path / "judge.jsonl")
    assert score(["a"], ["warm"], tmp_path) == score(["dreary"], ["warm"], tmp_path)


def test_score_nothing_is_nothing(tmp_path: Path) -> None:
    assert score([], [], tmp_path) == []


def test_score_unequal_lengths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 prompts for 2 responses"):
        score(["a"], ["b", "c"], tmp_path)


def test_judge_file_prefers_the_data_folder(tmp_path: Path) -> None:
    beside = write_judge(tmp_path / "judge.jsonl")
    assert judge_file(tmp_path) == beside
    inside = write_judge(tmp_path / "data" / "judge.jsonl")
    assert judge_file(tmp_path) == inside


def test_judge_file_missing_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"run `python -m movie_reviews\.build` first"):
        judge_file(tmp_path)
