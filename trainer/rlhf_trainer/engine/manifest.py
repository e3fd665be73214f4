"""What a folder must hold, file by file: it tells a whole one from a torn or a changed one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

MANIFEST = "manifest.json"

Entries = Mapping[str, Mapping[str, int | str]]
"""Size and checksum by path below the folder."""

Beat = Callable[[], object]
"""Gives a sign of life."""

BLOCK_BYTES = 2**26
"""Read between two signs of life."""


def _silent() -> None:
    """Give no sign of life."""


def entries(
    folder: Path, files: Iterable[Path], beat: Beat = _silent
) -> dict[str, dict[str, int | str]]:
    """Return what a manifest says about some files of `folder`; reading them takes its time."""
    return {
        str(path.relative_to(folder)): {
            "sizeBytes": path.stat().st_size,
            "sha256": _sha256(path, beat),
        }
        for path in files
    }


def files_of(folder: Path) -> list[Path]:
    """Return every file of a folder but its manifest, in an order that all ranks share."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != folder / MANIFEST)


def write_manifest(folder: Path, listed: Entries) -> None:
    """Write the manifest of a folder."""
    text = json.dumps(dict(sorted(listed.items())), indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


EVERY_FILE = slice(None)


def flaw(
    folder: Path,
    share: slice = EVERY_FILE,
    beat: Beat = _silent,
    *,
    ignore: Sequence[str] = (),
) -> str | None:
    """Say what is wrong with a folder that has been written with a manifest; None if nothing is.

    Files are read whole: ranks may each look at a share. `ignore` are patterns of names in the
    folder itself that do not matter.
    """
    try:
        listed: Entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "it has no manifest: it was never complete"
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read: {error}"
    matters = [name for name in sorted(listed) if not _matches(Path(name).parts[0], ignore)]
    for name, expected in ((name, listed[name]) for name in matters[share]):
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["sizeBytes"]:
                return f"{name} has {size} bytes and not {expected['sizeBytes']}"
            if _sha256(path, beat) != expected["sha256"]:
                return f"{name} is not what was written: its checksum differs"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror or error}"
    return None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _sha256(path: Path, beat: Beat) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            beat()
    return digest.hexdigest()
