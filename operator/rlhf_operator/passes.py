"""A pass as the queue sees it: timed, counted, logged with the run's name."""

import asyncio
import logging
from datetime import datetime

from rlhf_operator.api import RLHFRun, RunKey
from rlhf_operator.decide import Decision, events
from rlhf_operator.errors import ClusterError
from rlhf_operator.metrics import OperatorMetrics
from rlhf_operator.reconcile import Backend, Clock, Reconciler

logger = logging.getLogger(__name__)


class Passes:
    """Passes over runs, each told to metrics and log."""

    def __init__(self, backend: Backend, clock: Clock, metrics: OperatorMetrics) -> None:
        self._reconciler = Reconciler(_Told(backend, metrics), clock)
        self._metrics = metrics
        self._began: dict[RunKey, float] = {}

    async def look(self, key: RunKey) -> datetime | None:
        """Look at one run; return when it wants to be looked at again."""
        loop = asyncio.get_running_loop()
        self._began[key] = loop.time()
        try:
            decision = await self._reconciler.reconcile(key)
        except Exception:
            self._metrics.pass_errors.inc()
            raise
        finally:
            self._metrics.pass_seconds.observe(loop.time() - self._began.pop(key))
        return decision.wake_at if decision else None

    def longest_seconds(self) -> float:
        """Return for how long the oldest pass in flight has been going on."""
        now = asyncio.get_running_loop().time()
        return max((now - began for began in self._began.values()), default=0.0)


class _Told:
    """A backend whose transitions are logged and counted once they are written."""

    def __init__(self, backend: Backend, metrics: OperatorMetrics) -> None:
        self._backend, self._metrics = backend, metrics
        self.observe = backend.observe

    async def apply(self, run: RLHFRun, decision: Decision) -> None:
        """Apply, and tell what has changed; an action that fails leaves the status written."""
        try:
            await self._backend.apply(run, decision)
        except ClusterError as error:
            if not error.after_status:
                raise
            self._tell(run, decision)
            raise
        self._tell(run, decision)

    def _tell(self, run: RLHFRun, decision: Decision) -> None:
        if decision.status == run.status:
            return
        self._metrics.count(run.status, decision.status)
        context = {"run": run.metadata.name, "run_namespace": run.metadata.namespace}
        for event in events(run.status, decision.status):
            level = logging.WARNING if event.is_warning else logging.INFO
            logger.log(level, "%s: %s", event.reason, event.message, extra=context)
