"""Fetching: checksums, re-use, and errors that name the fix; pip is never called."""

import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from movie_reviews import fetch
from movie_reviews.errors import ExampleError


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_verify_right_sum_returns_the_content() -> None:
    assert fetch.verify("file", b"abc", fetch.sha256_of(b"abc")) == b"abc"


def test_verify_wrong_sum_names_file_sums_and_fix() -> None:
    with pytest.raises(ExampleError) as caught:
        fetch.verify("some.zip", b"abc", "0" * 64)
    message = str(caught.value)
    assert message.startswith("some.zip: SHA-256 is ba7816bf")
    assert "delete the file" in message
    assert "\n" not in message


def test_unpack_wrong_archive_writes_nothing(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(fetch.MEMBER_NAME, "something else")
    with pytest.raises(ExampleError, match="SHA-256"):
        fetch.unpack(content.getvalue(), tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_fetch_present_files_are_used_again(tmp_path: Path) -> None:
    for name in fetch.SOURCE_FILES:
        (tmp_path / name).touch()
    console = quiet()
    assert fetch.fetch(tmp_path, console) == tmp_path
    assert isinstance(console.file, io.StringIO)
    assert "again" in console.file.getvalue()


def test_fetch_without_network_ends_in_one_line_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess(
        args=[],
        returncode=1,
        stdout="",
        stderr="WARNING: retrying\nERROR: No matching distribution\n",
    )
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: failed)
    assert fetch.main(["--source", str(tmp_path / "source")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "ERROR: No matching distribution" in line
    assert "reaches a Python package index" in line


def test_fetch_damaged_kept_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / fetch.ARCHIVE_NAME).write_bytes(b"half of it")
    with pytest.raises(ExampleError, match=r"vaderSentiment-0\.5\.zip: SHA-256"):
        fetch.fetch(tmp_path, quiet())
