"""`history.jsonl`: one line per step, and pages of it for whoever reads over HTTP.

A number that is not finite stands as the string "NaN", "Infinity" or "-Infinity": JSON has no other
spelling for it, and `HistoryRecord` reads it back as the number it was.
"""

from bisect import bisect_left, bisect_right
from pathlib import Path
from threading import Lock

from rlhf_trainer.contract import HistoryRecord

MAXIMUM_PAGE_RECORDS = 1000
MAXIMUM_PAGE_BYTES = 1_000_000
"""A page never grows past these but for a single step: no reader can make work for long."""


class HistoryFile:
    """Appends records and pages through them; steps never fall.

    Only step and file position of each record are kept in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._lock = Lock()
        self._steps: list[int] = []
        self._ends: list[int] = [0]

    def append(self, record: HistoryRecord) -> None:
        """Write one record, so that it outlives the process.

        Raises:
            ValueError: the step is lower than the last one.
        """
        if self._steps and record.step < self._steps[-1]:
            raise ValueError(f"step={record.step}: below the last one, {self._steps[-1]}")
        line = record.model_dump_json(by_alias=True).encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        with self._lock:
            self._steps.append(record.step)
            self._ends.append(self._ends[-1] + len(line))

    def page(self, since: int) -> bytes:
        """Return the lines of the steps after `since`, oldest first: the first page of them."""
        with self._lock:
            first = bisect_right(self._steps, since)
            start = self._ends[first]
            last = bisect_right(self._ends, start + MAXIMUM_PAGE_BYTES) - 1
            last = min(last, first + MAXIMUM_PAGE_RECORDS, len(self._steps))
            last = self._whole_steps(first, last)
            size = self._ends[last] - start
        if size == 0:
            return b""
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _whole_steps(self, first: int, last: int) -> int:
        """Return where a page ends that would end before record `last`.

        The next one begins after a step, so that nothing of it may be left out. A step that is
        longer than a page still comes, alone: a reader could never get past it.
        """
        if last == len(self._steps):
            return last
        begun = bisect_left(self._steps, self._steps[last])
        return begun if begun > first else bisect_right(self._steps, self._steps[first])

    def close(self) -> None:
        """Close the file; pages can still be read."""
        self._file.close()
