"""How fast statuses are written: what brings progress alone makes way for the rest, and for others.

A run's status costs the API server about 20 ms of processor time per write, a ConfigMap 4.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

BUSY_WRITES = 4
"""So many statuses on their way are enough: what brings progress alone would hold up the rest."""

CROWDED_WRITES = 8
"""Half of the passes that there are at a time. Of a thousand runs so many can have waited too long
at once that new runs and ends of pods would find no turn.
"""

WRITES_PER_SECOND = 8
"""So many take a sixth of a core of the API server. A thousand live runs ask for four times as much
by progress alone. No hard limit: progress that has waited for long enough is written all the same.
"""

_SECOND = timedelta(seconds=1)


class WritePace:
    """The statuses that are on their way, and those that began to be written in the last second."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._on_their_way = 0
        self._begun: deque[datetime] = deque(maxlen=WRITES_PER_SECOND)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count a write for as long as it takes."""
        self._on_their_way += 1
        self._begun.append(self._clock())
        try:
            yield
        finally:
            self._on_their_way -= 1

    def is_busy(self) -> bool:
        """Return whether writes that can wait should, for a while."""
        now = self._clock()
        # Clocks may be set back: what seems to have begun later is as good as long ago.
        while self._begun and not now - _SECOND < self._begun[0] <= now:
            self._begun.popleft()
        return self._on_their_way >= BUSY_WRITES or len(self._begun) >= WRITES_PER_SECOND

    def is_crowded(self) -> bool:
        """Return whether writes that can wait must, however long they have."""
        return self._on_their_way >= CROWDED_WRITES
