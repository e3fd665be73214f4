"""Standard output that may go away before the run does: a terminal is closed, a pipe's reader ends.

What is said then is lost; what is done goes on. Whether a closed terminal also pauses the run is
decided by its signal.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from rich.console import Console

_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})
"""What a pipe without a reader answers, and a terminal that was closed."""

PIPED_WIDTH = 160
"""Width of tables where there is no terminal to ask."""


def lasting_console() -> Console:
    """Return a console on standard output that outlasts it."""
    console = Console(file=cast("IO[str]", LastingOutput(sys.stdout)), highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


class LastingOutput:
    """A text stream that is written to for as long as it can be."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the stream has
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, or lose it."""
        with self._lossy():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what has been written, or lose it."""
        with self._lossy():
            self._stream.flush()

    @contextmanager
    def _lossy(self) -> Iterator[None]:
        # rich turns a broken pipe into SystemExit, which would end the trainer with its display.
        try:
            yield
        except OSError as error:
            # A full disk, or a terminal that is busy, may take the next words.
            if error.errno in _GONE:
                self._let_go()

    def _let_go(self) -> None:
        """Let the stream lead nowhere: what it still holds would fail Python's exit, with 120."""
        # Streams of tests have no descriptor.
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)
