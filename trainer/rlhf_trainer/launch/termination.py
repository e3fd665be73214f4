"""Answers SIGTERM at every moment of a launcher's life. What the attempt's end is, others decide.

Once ranks run, torchrun's agent handles the signal: it passes it on and waits. Before, and where
the agent waits for other nodes, the main thread is blocked in C++ and Python's handlers do not run;
but the wake-up byte is written all the same, and a thread reads it.
"""

import os
import signal
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from types import FrameType
from typing import NoReturn

from rlhf_trainer.launch.orphan import end_children, has_children

_SECONDS_BETWEEN_LOOKS = 0.5

_LOOKS_WITHOUT_CHILDREN = 2
"""So many looks find no rank before the agent counts as stuck: it too needs a moment."""


class Termination:
    """Notices SIGTERM and, where the agent cannot answer it, ends the launcher."""

    def __init__(self, conclude: Callable[[], int], deadline_seconds: float) -> None:
        """Prepare, without touching any handler yet.

        `conclude`: settles the attempt and returns the exit code; called once at most, from
        whichever thread comes first. `deadline_seconds`: from SIGTERM to the launcher's end.
        """
        self.received = False
        self._conclude = conclude
        self._deadline_seconds = deadline_seconds
        self._handler = self._on_signal
        self._concluding = Lock()
        self._agent_done = Event()

    def install(self) -> None:
        """Take over SIGTERM, and SIGINT as the same: Ctrl-C should save as well."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._handler)
        signal.signal(signal.SIGINT, lambda *_: None)
        Thread(target=self._watch, args=(read_end,), name="sigterm", daemon=True).start()

    def settle(self) -> int:
        """Conclude from the main thread, once the agent has ended; further signals are ignored."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._agent_done.set()
        # Where the watching thread came first, it ends the process while this waits.
        with self._concluding:
            return self._conclude()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._end_now()

    def _watch(self, read_end: int) -> None:
        while True:
            signum = os.read(read_end, 1)[0]
            if signum == signal.SIGINT:
                os.kill(os.getpid(), signal.SIGTERM)
            elif signum == signal.SIGTERM and not self.received:
                self.received = True
                Thread(target=self._see_through, name="sigterm-deadline", daemon=True).start()

    def _see_through(self) -> None:
        if signal.getsignal(signal.SIGTERM) is self._handler:
            self._end_now()
        deadline = time.monotonic() + self._deadline_seconds
        lonely = 0
        while not self._agent_done.wait(_SECONDS_BETWEEN_LOOKS):
            lonely = 0 if has_children() else lonely + 1
            if lonely >= _LOOKS_WITHOUT_CHILDREN or time.monotonic() > deadline:
                end_children()
                self._end_now()

    def _end_now(self) -> None:
        self.received = True
        # Without waiting: a handler may interrupt the very thread that is concluding.
        if self._concluding.acquire(blocking=False):
            _leave(self._conclude())


def _leave(code: int) -> NoReturn:
    """End at once: the main thread may never come back from C++."""
    os._exit(code)
