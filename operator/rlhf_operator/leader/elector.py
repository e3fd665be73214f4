"""A Lease (coordination.k8s.io/v1) held by at most one process.

The library's elector cannot create a Lease, trusts wall clocks, and lets two processes lead for
some seconds after one of them was frozen; this one is asked before every write.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rlhf_operator.cluster.api import CONFLICT, Api
from rlhf_operator.cluster.kinds import LEASES
from rlhf_operator.errors import ClusterError
from rlhf_operator.leader import record
from rlhf_operator.leader.record import Record
from rlhf_operator.leader.timing import Timing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseName:
    """Which Lease, and as whom."""

    namespace: str
    name: str
    identity: str
    """Of this process alone: a restarted one is another."""


class Elector:
    """One process's claim to a Lease."""

    def __init__(
        self,
        api: Api,
        lease: LeaseName,
        timing: Timing,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._api, self._lease, self._timing = api, lease, timing
        self._clock, self._monotonic = clock, monotonic
        self._seen: Record | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def held(self) -> bool:
        """Return whether this process may write. True never lasts longer than others wait."""
        deadline = self._timing.renew_deadline_seconds
        return self._renewed_at is not None and self._monotonic() < self._renewed_at + deadline

    def ready(self) -> str:
        """Return why this process could not take over, if it could not."""
        return "" if self._seen is not None else f"{self._name} has not been read yet"

    async def acquire(self) -> None:
        """Return once this process holds the Lease."""
        said = ""
        while True:
            try:
                if await self._step():
                    logger.info("leading: %s is held by %s", self._name, self._lease.identity)
                    return
                waits = f"{self._name} is held by {self._seen.holder if self._seen else '?'}"
            except (ClusterError, TimeoutError) as error:
                waits = f"{self._name}: {error or type(error).__name__}"
            if waits != said:
                logger.info("waiting to lead: %s", waits)
                said = waits
            await asyncio.sleep(self._timing.retry_seconds)

    async def keep(self) -> str:
        """Renew the Lease; return why, once it is lost."""
        while True:
            await asyncio.sleep(self._timing.retry_seconds)
            try:
                if not await self._step():
                    return f"{self._name} is held by {self._seen.holder if self._seen else '?'}"
            except (ClusterError, TimeoutError) as error:
                if not self.held():
                    return f"{self._name} could not be renewed: {error or type(error).__name__}"
                logger.warning("%s not renewed, trying again: %s", self._name, error)

    async def release(self) -> None:
        """Let the next process lead at once; who cannot say so lets it wait."""
        self._renewed_at = None
        if self._seen is None:
            return
        try:
            async with asyncio.timeout(self._timing.retry_seconds):
                lease = await self._read()
                # Whoever was told to end in the middle of taking it holds it, too.
                if lease and Record.of(lease, 0.0).holder == self._lease.identity:
                    await self._api.replace(LEASES, record.let_go(lease))
        except (ClusterError, TimeoutError) as error:
            logger.warning("%s not released: %s", self._name, error)

    async def _step(self) -> bool:
        """Look at the Lease and take or renew it; return whether it is ours now.

        Raises:
            ClusterError: the API server did not do its part; nothing is known.
            TimeoutError: it took too long to.
        """
        began = self._monotonic()
        async with asyncio.timeout(self._timing.retry_seconds * 2):
            lease = await self._read()
            seen = Record.of(lease, self._timing.lease_seconds)
            if seen != self._seen:
                # Not since `began`: between that and the answer it may have been renewed.
                self._seen, self._seen_at = seen, self._monotonic()
            if not seen.is_free_for(self._lease.identity, began - self._seen_at):
                self._renewed_at = None
                return False
            ours = record.held_by(
                self._lease.identity,
                lease or record.empty(self._lease.namespace, self._lease.name),
                self._clock(),
                self._timing.lease_seconds,
            )
            try:
                await (self._api.replace if lease else self._api.create)(LEASES, ours)
            except ClusterError as error:
                if error.status != CONFLICT:
                    raise
                # Somebody else wrote in between; the next look tells who.
                return self.held()
        self._renewed_at = began
        return True

    async def _read(self) -> dict[str, object] | None:
        return await self._api.get(LEASES, self._lease.namespace, self._lease.name)

    @property
    def _name(self) -> str:
        return f"lease {self._lease.namespace}/{self._lease.name}"
