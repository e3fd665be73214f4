"""Build the files of the example: `python -m movie_reviews.build [--out DIR] [--swap-half]`.

Decides which split feeds which file, and in which format; the same source gives the same bytes.
What was built by the same code before is checked and used again.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from movie_reviews import EXAMPLE_ROOT
from movie_reviews.comparisons import (
    Choice,
    Comparison,
    compare,
    pairs_across_batches,
    pairs_within_batches,
    swap_half,
)
from movie_reviews.corpus import MOVIES, Snippet, Split, read_corpus, without_copies
from movie_reviews.errors import ExampleError, report
from movie_reviews.fetch import MEMBER_SHA256, fetch, sha256_of
from movie_reviews.ordering import shuffle_key
from movie_reviews.profanity import is_profane
from movie_reviews.prompts import openings

SEED = 17
"""Orders the pairs and picks the swapped half; nothing else is random."""

WORDS_RANGE = range(4, 41)
"""Lengths of usable snippets, in words: longer ones (1 %) would only lengthen every batch."""

LEAST_DEMONSTRATION_WORDS = 8
"""Shorter snippets teach the policy little but to stop at once."""

TRAINING_USES = 2
HELD_OUT_USES = 1
"""How many comparisons of each kind, within and across batches, one snippet may enter."""

SWAPPED_NAME = "comparisons-swapped.jsonl"
RECORD_NAME = "build.json"

FILE_NAMES = frozenset(
    (
        "demonstrations.jsonl",
        "demonstrations-heldout.jsonl",
        "comparisons.jsonl",
        "comparisons-heldout.jsonl",
        "prompts.jsonl",
        "prompts-heldout.jsonl",
        "judge.jsonl",
    )
)
"""Every file that a run may read, but for the negative control."""

Record = dict[str, Any]
"""One line of a JSONL file."""


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """What `build.json` remembers of a file, enough to tell whether it is still the same."""

    records: int
    sha256: str
    note: str


def scattered(snippets: Iterable[Snippet]) -> list[Snippet]:
    """Order snippets by a hash: the source is sorted by polarity, and a prefix must be fair."""
    return sorted(snippets, key=lambda snippet: shuffle_key(SEED, snippet.text))


def usable(snippets: Iterable[Snippet]) -> list[Snippet]:
    """Keep polite snippets of a usable length, one of each text."""
    kept = without_copies(snippets)
    return scattered(
        s for s in kept if len(s.text.split()) in WORDS_RANGE and not is_profane(s.text)
    )


def in_splits(snippets: Iterable[Snippet], *splits: Split) -> list[Snippet]:
    """Select the snippets of some splits, in order."""
    return [snippet for snippet in snippets if snippet.split in splits]


def demonstrations(snippets: Iterable[Snippet]) -> list[Record]:
    """Make `{"text"}` records: whole snippets, every token of which is trained."""
    return [
        {"text": snippet.text}
        for snippet in snippets
        if len(snippet.text.split()) >= LEAST_DEMONSTRATION_WORDS
    ]


def comparison_record(comparison: Comparison) -> Record:
    """Make a `{"chosen", "rejected", "annotations"}` record; the prompt is empty."""
    return asdict(comparison)


def comparisons_of(snippets: Sequence[Snippet], *, uses: int) -> list[Comparison]:
    """Pair snippets within their batches (annotated) and across them, in a mixed order."""
    within = pairs_within_batches(snippets, uses_per_snippet=uses, seed=SEED)
    across = pairs_across_batches(snippets, rounds=uses, seed=SEED)
    compared = [compare(better, worse) for better, worse in (*within, *across)]
    return sorted(compared, key=lambda pair: shuffle_key(SEED, pair.chosen, pair.rejected))


def make_records(movies: list[Snippet], *, swapped: bool) -> dict[str, list[Record]]:
    """Make every file's records from the usable movie snippets."""
    train = in_splits(movies, Split.TRAIN)
    held_out = in_splits(movies, Split.VALIDATION, Split.TEST)
    test = in_splits(movies, Split.TEST)
    pairs = comparisons_of(train, uses=TRAINING_USES)
    held_out_pairs = comparisons_of(held_out, uses=HELD_OUT_USES)
    held_out_prompts = openings([snippet.text for snippet in test])
    prompts = [p for p in openings([s.text for s in train]) if p not in set(held_out_prompts)]
    judge = in_splits(movies, Split.JUDGE)
    records: dict[str, list[Record]] = {
        "demonstrations.jsonl": demonstrations(train),
        "demonstrations-heldout.jsonl": demonstrations(held_out),
        "comparisons.jsonl": [comparison_record(pair) for pair in pairs],
        "comparisons-heldout.jsonl": [comparison_record(pair) for pair in held_out_pairs],
        "prompts.jsonl": [{"prompt": prompt} for prompt in prompts],
        "prompts-heldout.jsonl": [{"prompt": prompt} for prompt in held_out_prompts],
        "judge.jsonl": [{"text": s.text, "mean": round(s.mean, 4)} for s in judge],
    }
    if swapped:
        records[SWAPPED_NAME] = [comparison_record(p) for p in swap_half(pairs, seed=SEED)]
    return records


def describe(records: list[Record]) -> str:
    """Say in a few words what a summary table should tell about these records."""
    if "annotations" in records[0]:
        choices = Counter(a["choice"] for record in records for a in record["annotations"])
        share = {choice: choices[choice] / choices.total() for choice in Choice}
        annotated = sum(bool(record["annotations"]) for record in records)
        return (
            f"{annotated:,} annotated by {choices.total() / annotated:.1f} raters each: "
            f"{share[Choice.CHOSEN]:.1%} chosen, {share[Choice.REJECTED]:.1%} rejected, "
            f"{share[Choice.TIE]:.1%} tie"
        )
    field = "prompt" if "prompt" in records[0] else "text"
    words = sum(len(record[field].split()) for record in records) / len(records)
    return f"{words:.1f} words on average"


def write_records(path: Path, records: list[Record]) -> BuiltFile:
    """Write JSON lines (UTF-8, sorted by nothing, one space after separators) in one rename."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    content = "".join(lines).encode()
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    partial.replace(path)
    return BuiltFile(len(records), sha256_of(content), describe(records))


def recipe_sha256() -> str:
    """Identify the source and the code that decides the files' content."""
    digest = hashlib.sha256(MEMBER_SHA256.encode())
    for module in ("build", "comparisons", "corpus", "ordering", "profanity", "prompts"):
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return digest.hexdigest()


def read_build(out: Path) -> dict[str, BuiltFile]:
    """Return the files in `out` that this code built and nobody changed since."""
    try:
        remembered = json.loads((out / RECORD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if remembered.get("recipe") != recipe_sha256():
        return {}
    files = {name: BuiltFile(**fields) for name, fields in remembered["files"].items()}
    return {
        name: file
        for name, file in files.items()
        if (out / name).is_file() and sha256_of((out / name).read_bytes()) == file.sha256
    }


def build(out: Path, *, swapped: bool, console: Console) -> dict[str, BuiltFile]:
    """Make sure that `out` holds every file, and return what it holds."""
    present = read_build(out)
    wanted = {*FILE_NAMES, SWAPPED_NAME} if swapped else FILE_NAMES
    if wanted <= present.keys():
        console.print(f"Using the files in {out} again")
        return present
    source = fetch(out / "source", console)
    with console.status("Reading and pairing snippets"):
        movies = usable(read_corpus(source, MOVIES))
        made = make_records(movies, swapped=swapped or SWAPPED_NAME in present)
    built = {
        name: write_records(out / name, records)
        for name, records in track(made.items(), "Writing", console=console, transient=True)
    }
    remembered = {"recipe": recipe_sha256(), "files": {n: asdict(f) for n, f in built.items()}}
    text = json.dumps(remembered, indent=1) + "\n"
    (out / RECORD_NAME).write_text(text, encoding="utf-8")
    console.print(f"Built {len(built)} files in {out}")
    return built


def summary(built: dict[str, BuiltFile]) -> Table:
    """Lay out what was built."""
    table = Table(title="Movie reviews")
    table.add_column("file", no_wrap=True)
    table.add_column("records", justify="right")
    table.add_column("content")
    for name, file in built.items():
        table.add_row(name, f"{file.records:,}", file.note)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m movie_reviews.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=EXAMPLE_ROOT / "data", help="where to write")
    parser.add_argument(
        "--swap-half",
        action="store_true",
        help=f"also write {SWAPPED_NAME}: a negative control with half of the pairs exchanged",
    )
    options = parser.parse_args(arguments)
    try:
        built = build(options.out, swapped=options.swap_half, console=Console(stderr=True))
    except ExampleError as error:
        report(error)
        return 1
    Console().print(summary(built))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
