"""Snippets: cleaning, parsing, splits by hash, batches of raters, copies."""

import zlib
from pathlib import Path

import pytest

from movie_reviews.corpus import (
    Snippet,
    Split,
    clean_text,
    parse_snippets,
    read_corpus,
    split_of,
    without_copies,
)
from movie_reviews.errors import ExampleError


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        pytest.param("  A   fine\tday ", "a fine day", id="blanks"),
        pytest.param("Salt &amp; Pepper", "salt & pepper", id="html"),
        pytest.param("''Grand'' he said", '"grand" he said', id="doubled-quotes"),
        pytest.param("it\u2019s \u201cfine\u201d", 'it\'s "fine"', id="curly-quotes"),
        pytest.param("Caf\u00e9 na\u00efve", "cafe naive", id="accents"),
    ],
)
def test_clean_text_typesetting_becomes_plain(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned
    assert clean_text(cleaned) == cleaned


def corpus_files(num_items: int) -> tuple[str, str]:
    """Two files as the source has them, ids 1..n, with ratings 1 and 2 for everybody."""
    ids = range(1, num_items + 1)
    truth = "".join(f"{i}\t9.9\tItem number {i}\r\n" for i in ids)
    ratings = "".join(f"{i}\t9.9\t0.5\t[1, 2]\r\n" for i in ids)
    return truth, ratings


def test_parse_snippets_means_come_from_the_list() -> None:
    (snippet,) = parse_snippets(*corpus_files(1))
    assert snippet == Snippet("1", "item number 1", (1, 2), batch=0)
    assert snippet.mean == 1.5


def test_parse_snippets_batches_are_thirty_items_in_file_order() -> None:
    snippets = parse_snippets(*corpus_files(61))
    assert [s.batch for s in snippets] == [0] * 30 + [1] * 30 + [2]


def test_parse_snippets_other_line_separators_stay_in_the_text() -> None:
    (snippet,) = parse_snippets("7\t0\tone\u0085two\u2028three\r\n", "7\t0\t0\t[0]\r\n")
    assert snippet.text == "one two three"


def test_split_of_follows_the_hash_of_the_id() -> None:
    expected = {Split.TEST: range(2), Split.VALIDATION: range(2, 3), Split.JUDGE: range(3, 9)}
    for number in range(500):
        bucket = zlib.crc32(str(number).encode()) % 20
        found = next((split for split, range_ in expected.items() if bucket in range_), Split.TRAIN)
        assert split_of(str(number)) is found


def test_split_of_snippet_ignores_its_position() -> None:
    truth, ratings = corpus_files(40)
    backwards = "\r\n".join(reversed(ratings.split("\r\n")))
    forward = {s.id: s.split for s in parse_snippets(truth, ratings)}
    assert {s.id: s.split for s in parse_snippets(truth, backwards)} == forward
    assert len(set(forward.values())) == 4


def test_without_copies_keeps_the_first_of_each_text() -> None:
    texts = ["a fine day.", "a fine day!", "a dull day.", "..."]
    snippets = [Snippet(str(i), text, (0,), 0) for i, text in enumerate(texts)]
    assert [s.id for s in without_copies(snippets)] == ["0", "2"]
    assert [s.id for s in without_copies(snippets, {"a fine day"})] == ["2"]


def test_read_corpus_without_source_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"no such file; run `python -m movie_reviews\.fetch`"):
        read_corpus(tmp_path, "movieReviewSnippets")


def test_read_corpus_drops_the_byte_order_mark(tmp_path: Path) -> None:
    for kind, content in zip(("GroundTruth", "anonDataRatings"), corpus_files(2), strict=True):
        (tmp_path / f"made_{kind}.txt").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert [s.id for s in read_corpus(tmp_path, "made")] == ["1", "2"]
