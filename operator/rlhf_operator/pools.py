"""The node pools, read from the mounted ConfigMap again whenever it has changed."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from rlhf_operator.api import Pool
from rlhf_operator.errors import SpecError
from rlhf_operator.render import parse_pools

logger = logging.getLogger(__name__)


_State = tuple[tuple[str, int, int, int], ...]
"""Of all files: name, inode, time of the last change in ns, size."""


class MountedPools:
    """Pools by name; a change that cannot be read leaves the pools as they were."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = self._look()
        self._pools = parse_pools(self._read(self._state))

    def __call__(self) -> Mapping[str, Pool]:
        """Return the pools as they are declared now."""
        # Every pass asks: files are only read once something about them has changed.
        state = self._look()
        if state != self._state:
            texts = self._read(state)
            self._state = state
            try:
                self._pools = parse_pools(texts)
            except SpecError as error:
                logger.error("pools not changed: %s", error)  # noqa: TRY400 -- the message is all
        return self._pools

    def _look(self) -> _State:
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # A mounted ConfigMap has hidden folders that its keys are links into.
                if not entry.name.startswith(".") and entry.is_file():
                    seen = entry.stat()
                    found.append((entry.name, seen.st_ino, seen.st_mtime_ns, seen.st_size))
        return tuple(sorted(found))

    def _read(self, state: _State) -> dict[str, str]:
        return {name: (self._folder / name).read_text(encoding="utf-8") for name, *_ in state}
