"""What is seen of a run besides the run itself: the facts that policy works on.

How they are seen is each backend's business; what they mean is decided by the other modules of
`decide`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rlhf_operator.api import AttemptKey
from rlhf_operator.errors import SpecError
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
    kl_nats: tuple[tuple[int, float], ...] = ()
    """KL per response by step, oldest first, of steps that the status does not know yet."""
    metrics_available: bool | None = None
    """Whether its metrics can be read from outside; None before anybody tried."""


@dataclass(frozen=True)
class Trouble:
    """Why nothing moves, although it should: for people, and no reason to end anything."""

    reason: str
    """CamelCase."""
    message: str
    """Cause and what to do. The same words as long as the cause is the same."""


@dataclass(frozen=True)
class NotStarted:
    """The attempt does not exist; a backend says so only when it is certain, caches included."""


@dataclass(frozen=True)
class Running:
    """Something of the attempt is, or will be, alive."""

    progress: AttemptProgress = AttemptProgress()
    job_uid: str | None = None
    """Identity of its job, where attempts are jobs."""
    ending: bool = False
    """It has been told to end already."""


@dataclass(frozen=True)
class Ended:
    """Nothing of the attempt is alive any more, or its node has been lost for good."""

    exit_code: int | None
    """The launcher's exit code; None if the attempt vanished without one."""
    result: Result | None = None
    """What it said about its end."""
    message: str = ""
    """What others say about its end, where it could not."""
    disrupted: bool = False
    """It was ended from outside: its node lost, its pod evicted, its process gone with the
    machine.
    """
    progress: AttemptProgress = AttemptProgress()
    pod: str | None = None
    """The pod that speaks for it, where there is one and it stays."""
    node: str | None = None
    """The node where that pod was."""


Execution = NotStarted | Running | Ended


@dataclass(frozen=True)
class Observed:
    """What a backend sees of one run."""

    executions: Mapping[AttemptKey, Execution]
    """The attempts that exist; one that is absent has not been started."""
    refused: SpecError | None = None
    """What the user has to change before anything can start; it starts and ends nothing."""
    warning: str | None = None
    """What is worth knowing about the place where it runs."""
    suspended: bool = False
    """The user wants the run to pause."""
    deleting: bool = False
    """The user has deleted the run: it is held until nothing of it is alive."""
    held: bool = True
    """The run cannot vanish before it is let go."""
    jobs: frozenset[AttemptKey] = frozenset()
    """Attempts that left something behind which can be removed."""
    unfinished: frozenset[AttemptKey] = frozenset()
    """Those of them that are not known to be over, and could come to life again."""
    alive: frozenset[AttemptKey] = frozenset()
    """Those of them that are alive or are about to be, the live attempt's included."""
    trouble: Trouble | None = None
    """What keeps the live attempt from moving."""
    denied: Trouble | None = None
    """A request for the run that is refused, or that has been failing for a while."""
    edited: str | None = None
    """Who else has changed what the live attempt's job asks for, and what to do about it."""
    recheck_at: datetime | None = None
    """When time alone changes what is seen."""
    busy: bool = False
    """Writes wait for each other, or are many: those that can wait should, for a while."""
    crowded: bool = False
    """So many wait that what can wait must, however long it has."""

    def execution(self, key: AttemptKey) -> Execution:
        """Return what is seen of one attempt."""
        return self.executions.get(key, NotStarted())
