"""A sign of life while a folder grows: whoever writes a large model into it gives none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

EVERY_SECONDS = 15.0
"""A volume that takes nothing for that long is slow; one that takes nothing for good is a hang."""


@contextmanager
def beating_while_growing(
    folder: Path, beat: Callable[[], object], every_seconds: float = EVERY_SECONDS
) -> Iterator[None]:
    """Call `beat` from a thread for as long as the block writes below `folder`, and no longer."""
    done, begun_bytes = Event(), _size_bytes(folder)

    def watch() -> None:
        before = begun_bytes
        while not done.wait(every_seconds):
            now = _size_bytes(folder)
            if now != before:
                with suppress(OSError):  # it may write, too, to a volume that is full by now
                    beat()
            before = now

    thread = Thread(target=watch, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _size_bytes(folder: Path) -> int:
    """Return the size of all files that can be looked at: some go meanwhile."""
    size = 0
    with suppress(OSError):
        for path in folder.rglob("*"):
            with suppress(OSError):
                size += path.stat().st_size
    return size
