"""What is seen of a run besides the run itself: the facts that policy works on.

How they are seen is each backend's business; what they mean is decided by the other modules of
`decide`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlhf_operator.api import AttemptKey
from rlhf_trainer.contract import Result


@dataclass(frozen=True)
class AttemptProgress:
    """How far an attempt has come, as far as that is known."""

    step: int | None = None
    """Completed updates."""
    checkpoint_step: int | None = None
    """Newest complete checkpoint that this attempt has written."""
    certified_step: int | None = None
    """Newest step whose policy was measured inside the KL limit."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last measurements, camelCase with units, finite."""
    heartbeat: int | None = None
    """A number that changes as long as work goes on; None where it cannot be read."""


@dataclass(frozen=True)
class NotStarted:
    """The attempt does not exist; a backend says so only when it is certain, caches included."""


@dataclass(frozen=True)
class Running:
    """Something of the attempt is, or will be, alive."""

    progress: AttemptProgress = AttemptProgress()


@dataclass(frozen=True)
class Ended:
    """Nothing of the attempt is alive any more, or its node has been lost for good."""

    exit_code: int | None
    """The launcher's exit code; None if the attempt vanished without one."""
    result: Result | None = None
    """What it said about its end."""
    disrupted: bool = False
    """It was ended from outside: its node lost, its pod evicted, its process gone with the
    machine.
    """
    progress: AttemptProgress = AttemptProgress()


Execution = NotStarted | Running | Ended


@dataclass(frozen=True)
class Pool:
    """A place to run, as far as policy needs to know it."""

    name: str
    maximum_nodes: int | None = None
    """Nodes that one run may take; None where there is no such limit."""


@dataclass(frozen=True)
class Observed:
    """What a backend sees of one run."""

    executions: Mapping[AttemptKey, Execution]
    """The attempts that exist; one that is absent has not been started."""
    pools: tuple[Pool, ...]
    """Where runs may be placed."""
    suspended: bool = False
    """The user wants the run to pause."""

    def execution(self, key: AttemptKey) -> Execution:
        """Return what is seen of one attempt."""
        return self.executions.get(key, NotStarted())
