import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from rlhf_operator.api import RLHFRun, RunKey
from rlhf_operator.decide import Decision, Observed, StartAttempt
from rlhf_operator.reconcile import Reconciler


@dataclass
class Shelf:
    """A backend that holds one run, or none."""

    run: RLHFRun | None
    observed: Observed
    applied: list[Decision] = field(default_factory=list)

    async def observe(self, key: RunKey) -> tuple[RLHFRun, Observed] | None:
        return (self.run, self.observed) if self.run and self.run.key == key else None

    async def apply(self, run: RLHFRun, decision: Decision) -> None:
        assert run is self.run
        self.applied.append(decision)


def test_reconcile_applies_what_it_decides(
    build_run: Callable[..., RLHFRun], see: Callable[..., Observed], noon: datetime
) -> None:
    run = build_run()
    shelf = Shelf(run, see())
    decision = asyncio.run(Reconciler(shelf, lambda: noon).reconcile(run.key))
    assert decision is not None
    assert shelf.applied == [decision]
    assert isinstance(decision.actions[0], StartAttempt)
    assert decision.status.start_time == noon


def test_reconcile_vanished_run_does_nothing(see: Callable[..., Observed], noon: datetime) -> None:
    shelf = Shelf(None, see())
    assert asyncio.run(Reconciler(shelf, lambda: noon).reconcile(RunKey("", "demo"))) is None
    assert shelf.applied == []
