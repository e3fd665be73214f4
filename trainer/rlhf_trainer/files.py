"""Files and folders that are there whole or not at all; what stands in them others decide."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from rlhf_trainer.errors import InvalidError

WRITE_ERRNOS = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO})

SIGNS_WITH_CAUSE = ("os error 28", "os error 30", "os error 122")
"""How safetensors, which raises no OSError, says that a file could not be written, and why."""

SIGNS_WITHOUT_CAUSE = ("PytorchStreamWriter", "inline_container", "iostream error")
"""How torch.save says that something went wrong with its file."""

PROBE_BYTES = 2**20
"""More than a volume has left that has just refused a file."""


def write_failure(error: BaseException, folder: Path) -> BaseException | None:
    """Return the error that says why nothing can be written below `folder`; None if that is not so.

    Where `error` does not tell, the disk is asked.
    """
    if isinstance(error, OSError):
        return error if error.errno in WRITE_ERRNOS else None
    text = str(error)
    if any(sign in text for sign in SIGNS_WITH_CAUSE):
        return error
    if any(sign in text for sign in SIGNS_WITHOUT_CAUSE):
        return _refusal(folder) or error
    return None


def _refusal(folder: Path) -> OSError | None:
    """Return what the disk answers to a file of some size, if it refuses it."""
    try:
        with TemporaryFile(dir=folder) as file:
            file.write(b"\0" * PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
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
        sync(path.parent)


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder; wait for the disk and put it in place of `folder`."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    put_in_place(temporary, folder)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Give a folder its name once the disk has all of it; another one of that name goes."""
    for path in temporary.rglob("*"):
        sync(path)
    sync(temporary)
    remove_folder(folder)
    temporary.rename(folder)
    sync(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder if it is there; under its own name it is whole until it is gone."""
    if not folder.exists():
        return
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def require_readable(folder: Path, place: str) -> None:
    """Check every file of a model's folder: libraries report one they may not read as missing.

    Raises:
        InvalidError: this user may not read one of them.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file() and not os.access(path, os.R_OK):
            raise InvalidError(
                place,
                path,
                f"user {os.getuid()} may not read it",
                f"let it: chmod -R a+rX {folder}",
            )


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
