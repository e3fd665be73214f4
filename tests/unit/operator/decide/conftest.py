"""A run told pass by pass, its world written down by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from rlhf_operator.api import (
    AttemptKey,
    ConditionStatus,
    ConditionType,
    PhaseStatus,
    RLHFRun,
    RunStatus,
)
from rlhf_operator.decide import (
    Decision,
    Ended,
    Execution,
    Observed,
    StartAttempt,
    StopAttempt,
    decide,
)
from rlhf_trainer.contract import Phase

See = Callable[..., Observed]


@dataclass
class Story:
    """A run, told pass by pass."""

    run: RLHFRun
    see: See
    now: datetime
    decision: Decision = field(default_factory=lambda: Decision(RunStatus()))

    def after(
        self,
        seconds: float,
        execution: Execution | None = None,
        *,
        suspended: bool = False,
        busy: bool = False,
        crowded: bool = False,
    ) -> Decision:
        """Let time pass, look at the live attempt as `execution`, and decide."""
        self.now += timedelta(seconds=seconds)
        live = self.run.status.live
        executions = {live.key: execution} if live and execution else {}
        seen = self.see(executions, suspended=suspended)
        seen = replace(seen, busy=busy, crowded=crowded)
        self.decision = decide(self.run, seen, self.now)
        self.run = self.run.model_copy(update={"status": self.decision.status})
        return self.decision

    def ended(self, code: int | None, **seen: object) -> Decision:
        return self.after(5, Ended(code, **seen))

    def complete(self, *phases: Phase) -> None:
        """Bring the run past `phases`."""
        for phase in phases:
            if self.run.status.live is None:
                self.after(0)
            assert self.phase.phase is phase
            self.ended(0)

    @property
    def status(self) -> RunStatus:
        return self.decision.status

    @property
    def phase(self) -> PhaseStatus:
        due = self.status.due
        assert due is not None
        return due

    def condition(self, type_: ConditionType) -> tuple[ConditionStatus, str]:
        condition = self.status.condition(type_)
        assert condition is not None
        return condition.status, condition.reason

    def in_ppo(self) -> "Story":
        """Bring the run to its PPO."""
        self.complete(Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)
        return self

    @staticmethod
    def started(decision: Decision) -> list[AttemptKey]:
        return [action.key for action in decision.actions if isinstance(action, StartAttempt)]

    @staticmethod
    def stopped(decision: Decision) -> list[tuple[str, float]]:
        return [
            (action.reason, action.grace_seconds)
            for action in decision.actions
            if isinstance(action, StopAttempt)
        ]


@pytest.fixture
def tell(build_run: Callable[..., RLHFRun], see: See, noon: datetime) -> Callable[..., Story]:
    """Begin a story from `--set` overrides."""
    return lambda *overrides: Story(build_run(*overrides), see, noon)
