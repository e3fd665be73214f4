"""The node pools, read from the mounted ConfigMap again whenever it has changed."""

import logging
from collections.abc import Mapping
from pathlib import Path

from rlhf_operator.api import Pool
from rlhf_operator.errors import SpecError
from rlhf_operator.render import parse_pools

logger = logging.getLogger(__name__)


class MountedPools:
    """Pools by name; a change that cannot be read leaves the pools as they were."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts = self._read()
        self._pools = parse_pools(self._texts)

    def __call__(self) -> Mapping[str, Pool]:
        """Return the pools as they are declared now."""
        texts = self._read()
        if texts != self._texts:
            self._texts = texts
            try:
                self._pools = parse_pools(texts)
            except SpecError as error:
                logger.error("pools not changed: %s", error)  # noqa: TRY400 -- the message is all
        return self._pools

    def _read(self) -> dict[str, str]:
        # A mounted ConfigMap has hidden folders that its keys are links into.
        files = sorted(path for path in self._folder.glob("*") if not path.name.startswith("."))
        return {path.name: path.read_text(encoding="utf-8") for path in files if path.is_file()}
