"""One pass over a run: observe, decide, act. The operator and `rlhf run` differ in the backend."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rlhf_operator.api import RLHFRun, RunKey
from rlhf_operator.decide import Decision, Observed, decide

Clock = Callable[[], datetime]
"""The current time, aware and in UTC."""


class Backend(Protocol):
    """Where runs live: their store, and whatever executes attempts."""

    async def observe(self, key: RunKey) -> tuple[RLHFRun, Observed] | None:
        """Return the run as stored and what is seen of it, or None if there is no such run."""

    async def apply(self, run: RLHFRun, decision: Decision) -> None:
        """Write the decision's status, if it differs from the run's, and then take its actions.

        If the status cannot be written, no action is taken: the next pass decides anew.
        """


@dataclass(frozen=True)
class Reconciler:
    """Passes over the runs of one backend; nothing is remembered between them but what it shows."""

    backend: Backend
    clock: Clock

    async def reconcile(self, key: RunKey) -> Decision | None:
        """Look at one run and do what is due; None if it is gone."""
        seen = await self.backend.observe(key)
        if seen is None:
            return None
        run, observed = seen
        decision = decide(run, observed, self.clock())
        await self.backend.apply(run, decision)
        return decision
