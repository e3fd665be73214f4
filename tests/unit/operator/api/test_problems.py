from collections.abc import Callable
from datetime import date

import pytest
from pydantic import BaseModel, ValidationError

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.problems import problem_of
from rlhf_operator.errors import InvalidManifestError


class Sample(BaseModel):
    day: date = date(2026, 1, 1)


def test_problem_of_an_error_without_words_of_ours_keeps_pydantic_s() -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate_json('{"day": []}', strict=True)
    (error,) = caught.value.errors()
    problem = problem_of(error, Sample, lambda _: "r.yaml:1")
    assert str(problem) == "r.yaml:1: day=[]: Input should be a valid date; use a value"


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        ("[]", ["=[]: has 0 entries"]),
        ("['']", ['.0="": must not be empty']),
    ],
    ids=["empty", "wrong entry"],
)
def test_list_is_too_short_only_where_its_entries_are_right(
    build_run: Callable[..., RLHFRun], entries: str, problems: list[str]
) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        build_run(f"spec.model.lora.targetModules={entries}")
    place = "--set: spec.model.lora.targetModules"
    told = [str(each).partition("; ")[0] for each in caught.value.problems]
    assert told == [f"{place}{problem}" for problem in problems]
