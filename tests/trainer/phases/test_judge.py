from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rlhf_trainer.config.evaluation import JudgeConfig
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.phases.judge import entry_point_scores, load_entry_point

PLACE = "spec.evaluation.judge.entryPoint"
ROOT = Path("data")


def judge(entry_point: str) -> JudgeConfig:
    return JudgeConfig.model_validate({"kind": "EntryPoint", "entryPoint": entry_point})


def returning(value: object) -> Callable[..., Sequence[float]]:
    def score(*_: object) -> Sequence[float]:
        return value  # type: ignore[return-value]

    return score


def raising(error: Exception) -> Callable[..., Sequence[float]]:
    def score(*_: object) -> Sequence[float]:
        raise error

    return score


def refused(function: Callable[..., Sequence[float]]) -> str:
    with pytest.raises(InvalidError) as caught:
        entry_point_scores(function, ["p", "q"], ["a", "b"], ROOT)
    return caught.value.message


def test_scores_are_those_of_the_function() -> None:
    assert load_entry_point(JudgeConfig()) is None
    assert entry_point_scores(returning([1, 2.5]), ["p", "q"], ["a", "b"], ROOT).tolist() == [
        1,
        2.5,
    ]


def test_function_that_raises_is_named_with_the_first_line_of_its_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(raising(KeyError("mean\nsecond"))).startswith(
        f"{PLACE}=score: raised KeyError: "
    )
    assert refused(raising(ValueError("no such word\nsecond line"))) == (
        f"{PLACE}=score: raised ValueError: no such word; correct the function (the log has its "
        "traceback), or use kind RewardModel"
    )
    assert "raise error" in capsys.readouterr().err


def test_function_that_runs_out_of_memory_is_not_blamed() -> None:
    with pytest.raises(MemoryError):
        entry_point_scores(raising(MemoryError()), ["p"], ["a"], ROOT)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1.0], "returned scores of shape (1,) for 2 responses"),
        ([1.0, np.nan], "returned 1 scores that are not finite"),
        (["good", "bad"], "returned no numbers: could not convert"),
    ],
)
def test_scores_that_are_not_one_finite_number_each_are_refused(
    value: object, problem: str
) -> None:
    message = refused(returning(value))
    assert message.startswith(f"{PLACE}=score: {problem}")
    assert message.endswith("return one finite number per response")


@pytest.mark.parametrize(
    ("entry_point", "problem"),
    [
        ("no_such_module:score", "cannot be loaded: No module named"),
        ("json:scores", "cannot be loaded: module 'json' has no attribute 'scores'"),
        ("broken_judge:score", "cannot be loaded: boom"),
        ("math:pi", "is no function"),
    ],
)
def test_entry_point_that_is_none_is_refused(
    entry_point: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_judge.py").write_text('raise RuntimeError("boom")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidError) as caught:
        load_entry_point(judge(entry_point))
    assert caught.value.message.startswith(f"{PLACE}={entry_point}: {problem}")
