from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.data.loading import COMPARISONS, DEMONSTRATIONS, PROMPTS, Kind, load
from rlhf_trainer.data.problems import PROBLEMS_KEPT
from rlhf_trainer.data.records import Comparison, Demonstration, Prompt

Jsonl = Callable[..., Path]
HELLO = {"role": "user", "content": "Hello"}
HI = {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    ("kind", "row", "record"),
    [
        (DEMONSTRATIONS, {"text": "a"}, Demonstration("a.jsonl:1", "", "a")),
        (COMPARISONS, {"chosen": "a", "rejected": "b"}, Comparison("a.jsonl:1", "", "a", "b")),
        (PROMPTS, {"prompt": "a"}, Prompt("a.jsonl:1", "a")),
    ],
)
def test_load_gives_records_with_their_places(
    jsonl: Jsonl, tmp_path: Path, kind: Kind[Any], row: object, record: object
) -> None:
    jsonl("a.jsonl", row)
    loaded = load(kind, DatasetSource(path="a.jsonl"), "spec.data.x", tmp_path)
    assert loaded.records == [record]
    assert loaded.problems == []


def prompts_told(tmp_path: Path, path: str = "a.jsonl") -> list[str]:
    loaded = load(PROMPTS, DatasetSource(path=path), "spec.data.prompts", tmp_path)
    return [str(problem) for problem in loaded.problems]


def test_load_tells_every_wrong_record_by_line(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl("a.jsonl", {"prompt": ""}, {"prompt": "a"}, "a", {"prompt": [{"role": "me"}]})
    assert prompts_told(tmp_path) == [
        "a.jsonl:1 prompt='': is empty; write some text, or remove the record",
        "a.jsonl:3='a': is not an object; write {\"field\": value, …}",
        "a.jsonl:4 prompt[0]={'role': 'me'}: lacks 'content'; add 'content'",
    ]


def test_load_keeps_the_good_records_of_a_bad_file(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl("a.jsonl", {"prompt": ""}, {"prompt": "a"})
    loaded = load(PROMPTS, DatasetSource(path="a.jsonl"), "spec.data.prompts", tmp_path)
    assert loaded.records == [Prompt("a.jsonl:2", "a")]


def test_load_with_many_problems_tells_how_many_more(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl("a.jsonl", *[{"prompt": ""}] * (PROBLEMS_KEPT + 5))
    told = prompts_told(tmp_path)
    assert len(told) == PROBLEMS_KEPT + 1
    assert told[-1] == "spec.data.prompts=25 problems: 5 more are not listed; mend these first"


def test_load_mixed_formats_names_both_records(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl("a.jsonl", {"prompt": ""}, {"prompt": "a"}, {"prompt": [HELLO]}, {"prompt": "b"})
    assert prompts_told(tmp_path)[1:] == [
        (
            "a.jsonl:3 fields=['prompt']: are of the format prompt, conversational, where "
            "a.jsonl:2 is "
            "of prompt, text; write all records of a data set in one format"
        )
    ]


def test_load_explicit_and_implicit_prompts_do_not_mix(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl(
        "a.jsonl",
        {"chosen": [HELLO, HI], "rejected": [HELLO, {**HI, "content": "Go"}]},
        {"prompt": [HELLO], "chosen": [HI], "rejected": [{**HI, "content": "Go"}]},
    )
    loaded = load(COMPARISONS, DatasetSource(path="a.jsonl"), "spec.data.comparisons", tmp_path)
    (problem,) = loaded.problems
    assert "are of the format preference with explicit prompt, conversational" in str(problem)


@pytest.mark.parametrize("content", ["", "\n\n"], ids=["empty", "blank"])
def test_load_file_without_records_is_a_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    assert prompts_told(tmp_path) == ["spec.data.prompts='a.jsonl': holds no records; add some"]


def test_load_missing_file_is_a_problem(tmp_path: Path) -> None:
    (problem,) = prompts_told(tmp_path)
    assert problem.startswith("spec.data.prompts.path='a.jsonl': no such file or folder below")


def test_load_takes_null_for_absent(tmp_path: Path) -> None:

    table = pa.Table.from_pylist(
        [
            {"prompt": None, "chosen": "a", "rejected": "b", "annotations": None},
            {"prompt": None, "chosen": "c", "rejected": "d", "annotations": None},
        ],
        schema=pa.schema(
            {
                "prompt": pa.string(),
                "chosen": pa.string(),
                "rejected": pa.string(),
                "annotations": pa.list_(
                    pa.struct({"annotator": pa.string(), "choice": pa.string()})
                ),
            }
        ),
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    loaded = load(COMPARISONS, DatasetSource(path="a.parquet"), "spec.data.comparisons", tmp_path)
    assert loaded.problems == []
    assert loaded.records == [
        Comparison("a.parquet[0]", "", "a", "b"),
        Comparison("a.parquet[1]", "", "c", "d"),
    ]


def test_load_names_the_fields_that_it_ignores(jsonl: Jsonl, tmp_path: Path) -> None:
    jsonl(
        "a.jsonl",
        {"chosen": "a", "rejected": "b", "promt": "c"},
        {"chosen": "d", "rejected": "e", "id": 1},
    )
    loaded = load(COMPARISONS, DatasetSource(path="a.jsonl"), "spec.data.comparisons", tmp_path)
    assert loaded.ignored_fields == ("id", "promt")
    assert loaded.format == "preference with implicit prompt, text"
