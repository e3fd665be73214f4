"""Read the rated snippets: what a snippet is, which split it belongs to, and who rated it.

Splits follow a hash of the id, never the position: the movie file is sorted by polarity. Raters are
known within a batch only: in the movie file a column of the rating lists is one person for 30 items
in a row, and somebody else in the next 30. What is made of the snippets is decided elsewhere.
"""

import ast
import html
import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from movie_reviews.errors import ExampleError

MOVIES = "movieReviewSnippets"
OTHER_CORPORA = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")

BATCH_SIZE = 30
"""Items in a row that the same people rated."""

_PLAIN_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


class Split(StrEnum):
    """What a movie snippet may be used for."""

    TRAIN = "train"
    JUDGE = "judge"
    VALIDATION = "validation"
    TEST = "test"


_SPLIT_OF_BUCKET = (
    (Split.TEST,) * 2 + (Split.VALIDATION,) * 1 + (Split.JUDGE,) * 6 + (Split.TRAIN,) * 11
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One cleaned snippet with its ratings from -4 (negative) to 4 (positive)."""

    id: str
    text: str
    ratings: tuple[int, ...]
    batch: int
    """Number of its block of `BATCH_SIZE` items: equal columns are one person within it."""

    @property
    def mean(self) -> float:
        """Mean rating, from the list: the means in the files are rounded."""
        return sum(self.ratings) / len(self.ratings)

    @property
    def split(self) -> Split:
        """Split of this snippet, by its id alone."""
        return split_of(self.id)


def split_of(snippet_id: str) -> Split:
    """Choose a split by CRC-32 of the id: 10 % test, 5 % validation, 30 % judge, 55 % train."""
    return _SPLIT_OF_BUCKET[zlib.crc32(snippet_id.encode()) % len(_SPLIT_OF_BUCKET)]


def clean_text(raw: str) -> str:
    """Undo HTML and typesetting: plain quotes, no accents, single blanks, lower case."""
    text = html.unescape(raw).translate(_PLAIN_QUOTES).replace("''", '"')
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return re.sub(r"\s+", " ", plain).strip().lower()


def parse_snippets(ground_truth: str, ratings: str) -> list[Snippet]:
    """Join the two files of a corpus (tab-separated, CRLF) on the id, in file order."""
    texts: dict[str, str] = {}
    for line in _lines(ground_truth):
        snippet_id, _mean, raw = line.split("\t")
        texts[snippet_id] = clean_text(raw)
    snippets = []
    for position, line in enumerate(_lines(ratings)):
        snippet_id, _mean, _deviation, listed = line.split("\t")
        values = tuple(int(value) for value in ast.literal_eval(listed))
        snippets.append(Snippet(snippet_id, texts[snippet_id], values, position // BATCH_SIZE))
    return snippets


def _lines(content: str) -> list[str]:
    # Snippets hold other line separators (U+0085, U+2028): only CRLF ends a record.
    return [line for line in content.split("\r\n") if line.strip()]


def read_corpus(source: Path, stem: str) -> list[Snippet]:
    """Read one corpus from the folder that `fetch` filled."""
    parts = []
    for kind in ("GroundTruth", "anonDataRatings"):
        path = source / f"{stem}_{kind}.txt"
        if not path.is_file():
            raise ExampleError(
                what=str(path),
                problem="no such file",
                fix="run `python -m movie_reviews.fetch` first",
            )
        # newline="" keeps CRLF; utf-8-sig drops the byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            parts.append(file.read())
    return parse_snippets(*parts)


def comparison_key(text: str) -> str:
    """Reduce a text to its words, so that copies which differ in punctuation count as copies."""
    return " ".join(re.findall(r"[a-z0-9]+", text))


def without_copies(snippets: Iterable[Snippet], seen: set[str] | None = None) -> list[Snippet]:
    """Keep the first snippet of each text; texts whose keys are in `seen` are copies as well."""
    known = set(seen or ())
    kept = []
    for snippet in snippets:
        key = comparison_key(snippet.text)
        if key and key not in known:
            known.add(key)
            kept.append(snippet)
    return kept
