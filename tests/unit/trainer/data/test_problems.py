from rlhf_trainer.data.problems import PROBLEMS_KEPT, Problem, Problems, invalid, shortened
from rlhf_trainer.errors import InvalidError


def problem(number: int) -> Problem:
    return Problem(f"a.jsonl:{number} text", "''", "is empty", "write some text")


def test_problem_as_text_reads_place_value_problem_fix() -> None:
    assert str(problem(3)) == "a.jsonl:3 text='': is empty; write some text"


def test_problem_from_error_says_the_same() -> None:
    error = InvalidError("spec.seed", -1, "is negative", "use 0 or more")
    assert str(Problem.from_error(error)) == str(error)


def test_problems_up_to_the_limit_are_all_told() -> None:
    problems = Problems("spec.data.prompts")
    for number in range(PROBLEMS_KEPT):
        problems.add(problem(number))
    assert problems.told() == [problem(number) for number in range(PROBLEMS_KEPT)]


def test_problems_over_the_limit_are_counted() -> None:
    problems = Problems("spec.data.prompts")
    for number in range(PROBLEMS_KEPT + 7):
        problems.add(problem(number))
    told = problems.told()
    assert len(problems) == PROBLEMS_KEPT + 7
    assert len(told) == PROBLEMS_KEPT + 1
    assert str(told[-1]) == (
        "spec.data.prompts=27 problems: 7 more are not listed; mend these first"
    )


def test_invalid_tells_one_problem_per_line() -> None:
    error = invalid([problem(1), problem(2)])
    assert error.message.splitlines() == [str(problem(1)), str(problem(2))]


def test_invalid_with_too_many_problems_is_bounded() -> None:
    lines = invalid([problem(number) for number in range(50)]).message.splitlines()
    assert len(lines) == PROBLEMS_KEPT + 1
    assert lines[-1] == "and 30 more problems"


def test_shortened_keeps_long_values_on_one_short_line() -> None:
    assert shortened("short") == "'short'"
    assert len(shortened("x\n" * 10_000)) <= 60
    assert "\n" not in shortened("x\n" * 10_000)
    assert len(shortened({f"key{number}": "v" * 1000 for number in range(100)})) < 300
