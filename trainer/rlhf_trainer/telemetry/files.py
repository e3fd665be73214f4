"""Files that are there whole or not at all. What stands in them is decided elsewhere."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str, *, durable: bool) -> None:
    """Replace the file at `path`; a reader sees the old text or the new one, never a part.

    `durable` waits until text and name are on the disk, which a file written several times a second
    should not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
