"""The built files: no text in two splits, formats, the same bytes again, re-use."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from movie_reviews import build
from movie_reviews.corpus import Snippet, Split, split_of


def made_up_movies(num_batches: int = 20) -> list[Snippet]:
    """Hand-made snippets, 30 a batch, of three raters with means from -2 to 2."""
    return [
        Snippet(
            str(number),
            f"snippet {number} of batch {number // 30} says {number % 5} things that nobody wrote",
            (number % 5 - 2, number % 5 - 2, number % 5 - 1),
            number // 30,
        )
        for number in range(30 * num_batches)
    ]


@pytest.fixture
def records() -> dict[str, list[build.Record]]:
    return build.make_records(made_up_movies(), swapped=True)


def id_in(text: str) -> str:
    return text.split()[1]


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("demonstrations.jsonl", {Split.TRAIN}),
        ("demonstrations-heldout.jsonl", {Split.VALIDATION, Split.TEST}),
        ("comparisons.jsonl", {Split.TRAIN}),
        ("comparisons-swapped.jsonl", {Split.TRAIN}),
        ("comparisons-heldout.jsonl", {Split.VALIDATION, Split.TEST}),
        ("prompts.jsonl", {Split.TRAIN}),
        ("prompts-heldout.jsonl", {Split.TEST}),
        ("judge.jsonl", {Split.JUDGE}),
    ],
)
def test_make_records_each_file_reads_its_own_splits(
    records: dict[str, list[build.Record]], name: str, splits: set[Split]
) -> None:
    fields = [
        record[field]
        for record in records[name]
        for field in ("text", "prompt", "chosen", "rejected")
        if field in record
    ]
    assert {split_of(id_in(text)) for text in fields} == splits


def test_make_records_texts_of_training_and_held_out_files_do_not_meet(
    records: dict[str, list[build.Record]],
) -> None:
    def texts(*names: str) -> set[str]:
        return {
            record[field]
            for name in names
            for record in records[name]
            for field in ("text", "prompt", "chosen", "rejected")
            if field in record
        }

    training = texts("demonstrations.jsonl", "comparisons.jsonl", "prompts.jsonl")
    held_out = texts(
        "demonstrations-heldout.jsonl", "comparisons-heldout.jsonl", "prompts-heldout.jsonl"
    )
    judge = texts("judge.jsonl")
    assert training.isdisjoint(held_out)
    assert judge.isdisjoint(training | held_out)


def test_make_records_held_out_prompt_is_no_training_prompt() -> None:
    number = next(i for i in range(1000, 2000) if split_of(str(i)) is Split.TEST)
    shared = "the same eleven words open this snippet and then go on"
    twins = [
        Snippet(str(number), shared + " one way", (0,), 900),
        Snippet("0", shared + " one way", (0,), 901),
    ]
    assert split_of("0") is Split.TRAIN
    made = build.make_records([*made_up_movies(), *twins], swapped=False)
    held_out = {record["prompt"] for record in made["prompts-heldout.jsonl"]}
    assert any(prompt.startswith("the same eleven") for prompt in held_out)
    assert held_out.isdisjoint(record["prompt"] for record in made["prompts.jsonl"])


def test_make_records_comparison_has_text_and_named_choices(
    records: dict[str, list[build.Record]],
) -> None:
    plain = [json.loads(json.dumps(record)) for record in records["comparisons.jsonl"]]
    assert {tuple(record) for record in plain} == {("chosen", "rejected", "annotations")}
    assert {len(record["annotations"]) for record in plain} == {0, 3}
    record = next(record for record in plain if record["annotations"])
    assert [list(entry) for entry in record["annotations"]] == [["annotator", "choice"]] * 3
    assert {entry["choice"] for entry in record["annotations"]} <= {"chosen", "rejected", "tie"}


def test_usable_drops_copies_and_lengths_and_mixes_the_order() -> None:
    movies = made_up_movies(2)
    odd = [Snippet("x", "too short", (0,), 0), Snippet("y", "word " * 50, (0,), 0)]
    kept = build.usable([*movies, *odd, *movies])
    assert sorted(int(snippet.id) for snippet in kept) == list(range(60))
    assert [snippet.id for snippet in kept] != [snippet.id for snippet in movies]


@pytest.fixture
def no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace fetching and reading: tests use neither the network nor other people's text."""
    monkeypatch.setattr(build, "fetch", lambda source, _console: source)
    monkeypatch.setattr(build, "read_corpus", lambda _source, _stem: made_up_movies())


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.usefixtures("no_source")
def test_build_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build.build(tmp_path / name, swapped=True, console=quiet())
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.usefixtures("no_source")
def test_build_second_run_says_that_it_uses_files_again(tmp_path: Path) -> None:
    first = build.build(tmp_path, swapped=False, console=quiet())
    console = quiet()
    assert build.build(tmp_path, swapped=False, console=console) == first
    assert isinstance(console.file, io.StringIO)
    assert "again" in console.file.getvalue()


@pytest.mark.usefixtures("no_source")
def test_build_changed_file_is_written_anew(tmp_path: Path) -> None:
    build.build(tmp_path, swapped=False, console=quiet())
    before = digests(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    build.build(tmp_path, swapped=False, console=quiet())
    assert digests(tmp_path) == before


@pytest.mark.usefixtures("no_source")
def test_build_swap_half_adds_one_file_and_changes_none(tmp_path: Path) -> None:
    build.build(tmp_path, swapped=False, console=quiet())
    before = digests(tmp_path)
    build.build(tmp_path, swapped=True, console=quiet())
    after = digests(tmp_path)
    assert after.keys() - before.keys() == {"comparisons-swapped.jsonl"}
    assert all(after[name] == before[name] for name in before if name != "build.json")
