import pytest

from rlhf_operator.errors import InvalidManifestError, SpecError, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-5, "1e-05"),
        ("", '""'),
        ("two\n lines", "two lines"),
        ({}, "{}"),
        ({"a": 1}, "{…}"),
        ([], "[]"),
        ([1], "[…]"),
        ("x" * 61, "x" * 59 + "…"),
    ],
)
def test_shown_value_is_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text


def test_spec_error_reads_as_place_field_value_problem_fix() -> None:
    error = SpecError(
        place="r.yaml:3", field="spec.seed", value=-1, problem="negative", fix="use 0"
    )
    assert str(error) == "r.yaml:3: spec.seed=-1: negative; use 0"
    assert str(SpecError(field="spec", problem="missing", fix="add it")) == "spec: missing; add it"


def test_invalid_manifest_error_is_a_line_per_problem() -> None:
    one = SpecError(field="a", problem="b", fix="c")
    assert str(InvalidManifestError([one, one])) == "a: b; c\na: b; c"
