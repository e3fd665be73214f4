"""Results are read back as they were written, and the page says all that they do."""

import platform
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import gpu_recorded
import ppo_against_trl
from generate_benchmarks import page, shown
from recording import (
    RESULTS,
    Cell,
    Lever,
    Result,
    Section,
    Table,
    command_line,
    conditions,
    load,
    processor,
    read_results,
    record,
)

TABLE = Table("a table", ("side", "seconds"), (("TRL", 10.25), ("ours", None)), ("a note",))
RESULT = Result(
    name="one",
    section=Section.TRAINING,
    title="First",
    measured="It was measured.",
    command="python benchmarks/one.py",
    tables=(TABLE,),
    levers=(Lever("kept | one", True, "1.3 times"), Lever("dropped one", False, "no gain")),
)


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    told = replace(RESULT, conditions=conditions(load(), settings={"B": "2", "A": "1"}))
    record(told, tmp_path)
    assert read_results(tmp_path) == [told]


def test_results_are_sorted_by_section_then_name(tmp_path: Path) -> None:
    for name, section in (("b", Section.GPU), ("z", Section.TRAINING), ("a", Section.OPERATOR)):
        record(replace(RESULT, name=name, section=section), tmp_path)
    record(replace(RESULT, name="c"), tmp_path)
    assert [result.name for result in read_results(tmp_path)] == ["c", "z", "b", "a"]


def test_conditions_name_machine_versions_and_revision() -> None:
    told = conditions(0.5, versions={"trl": "9.9"}, settings={"B": "2", "A": "1"})
    assert told.load_before == 0.5
    assert told.machine.processor
    assert told.machine.memory_gib > 0
    assert told.versions["trl"] == "9.9"
    assert {"torch", "rlhf-operator"} <= told.versions.keys()
    assert list(told.versions) == sorted(told.versions)
    assert list(told.settings) == ["A", "B"]


@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [
        ("model name\t: X 9\nflags\t\t: fpu avx2 avx512f\n", "X 9 with AVX-512"),
        ("model name\t: X 9\nflags\t\t: fpu avx2 avx512er\n", "X 9 with AVX2"),
        ("model name\t: X 9\nflags\t\t: fpu sse\n", "X 9"),
        ("Features\t: fp asimd\n", platform.machine()),
        ("", platform.machine()),
    ],
    ids=["avx-512", "avx2", "neither", "another-make", "no-file"],
)
def test_a_processor_is_told_by_model_and_vectors(cpuinfo: str, told: str) -> None:
    assert processor(cpuinfo) == told


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        Table("t", ("a", "b"), ((1, 2), (3,)))


def test_the_command_measures_what_was_measured() -> None:
    usual = ppo_against_trl.options().parse_args([])
    words = [*("--case", "a", "--threads", "1", "4", "--ppo"), '{"epochs": 2}', "--start", "here"]
    asked = ppo_against_trl.options().parse_args(words)
    command = command_line("ppo_against_trl", asked, usual, without=("start", "results"))
    program, *again = shlex.split(command.removeprefix("python "))
    assert program == "benchmarks/ppo_against_trl.py"
    assert "--start" not in again
    assert ppo_against_trl.options().parse_args([*again, "--start", "here"]) == asked
    assert command_line("x", usual, usual) == "python benchmarks/x.py"


def test_the_page_begins_with_what_it_comes_to() -> None:
    told = replace(RESULT, headlines=("twice as fast",))
    assert "## At a glance" not in page([RESULT])
    glance, _, _ = page([RESULT, told]).partition(f"## {Section.TRAINING}")
    assert glance.count("| First | twice as fast |") == 1


def test_a_headline_says_how_a_critic_compares() -> None:
    columns = ("threads", "side", "times as fast (CPU)", ppo_against_trl.MEMORY)
    compared = Table("t", columns, ((1, "TRL", 1.0, 1.0), (1, "ours", 2.058, 0.5857)))
    floor = Table(
        "f",
        ("critic", "stage", "CPU s", "floor s", "times the floor"),
        (("Separate", "generation", 1.0, 0.5, 2.0), ("Separate", "update", 3.0, 2.0, 1.5)),
    )
    assert ppo_against_trl.headline("Separate", compared, floor) == (
        "Separate: 2.06 times as fast as TRL on 1 thread, in 0.59 of its memory; "
        "generation 2, update 1.5 times the floor"
    )
    assert "floor" not in ppo_against_trl.headline("SharedTrunk", compared, floor)


def test_the_page_has_tables_levers_and_what_is_missing() -> None:
    missing = replace(
        RESULT, name="two", section=Section.GPU, tables=(), levers=(), unmeasured="no card"
    )
    text = page([RESULT, missing])
    assert "| TRL | 10.2 |\n| ours | - |\n" in text
    assert "**Not measured**: no card" in text
    paid, unpaid = text.index("## What paid"), text.index("## What did not pay")
    assert paid < text.index("| kept \\| one | 1.3 times | First |") < unpaid
    assert unpaid < text.index("| dropped one | no gain | First |")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (None, "-"),
        ("x", "x"),
        (12345, "12,345"),
        (0.01234, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (0.9996, "1.00"),
        (0.9994, "0.999"),
        (9.996, "10.0"),
        (999.7, "1,000"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (-1.234, "-1.23"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_count(cell: Cell, expected: str) -> None:
    assert shown(cell) == expected


def test_recorded_gpu_results_are_what_their_page_says(tmp_path: Path) -> None:
    gpu_recorded.main(tmp_path)
    for name in ("gpu-training", "gpu-decoding"):
        file = f"{name}.json"
        recorded = (RESULTS / file).read_text("utf-8")
        assert (tmp_path / file).read_text("utf-8") == recorded
