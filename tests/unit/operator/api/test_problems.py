from datetime import date

import pytest
from pydantic import BaseModel, ValidationError

from rlhf_operator.api.problems import problem_of


class Sample(BaseModel):
    day: date = date(2026, 1, 1)


def test_problem_of_an_error_without_words_of_ours_keeps_pydantic_s() -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate_json('{"day": []}', strict=True)
    (error,) = caught.value.errors()
    problem = problem_of(error, Sample, lambda _: "r.yaml:1")
    assert str(problem) == "r.yaml:1: day=[]: Input should be a valid date; use a value"
