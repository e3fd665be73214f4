"""The status of a run: all that must outlive the process that drives it, and what people are shown.

What the fields mean is said here; when they change is decided in `decide`.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field, computed_field, field_validator

from rlhf_operator.api.keys import AttemptKey, PhaseKey
from rlhf_operator.api.model import ApiModel, Time
from rlhf_operator.api.outcome import RunOutcome
from rlhf_trainer.contract import Phase

Reason = Annotated[str, Field(max_length=256)]
"""CamelCase, for programs."""

Message = Annotated[str, Field(max_length=8192)]
"""A sentence for people."""


MAXIMUM_METRICS = 64
"""Metrics that a phase's status holds at most."""


class ConditionType(StrEnum):
    """Conditions of a run, in the order in which they are shown."""

    ACCEPTED = "Accepted"
    """The manifest can be run here."""
    PROGRESSING = "Progressing"
    """Work goes on, or waits only for a back-off."""
    METRICS_AVAILABLE = "MetricsAvailable"
    """The metrics of the live attempt can be read from outside; unknown is never healthy."""
    KL_WITHIN_LIMIT = "KLWithinLimit"
    """The last measured KL to the SFT policy is inside `guard.kl`'s limit."""
    SUCCEEDED = "Succeeded"
    """Every phase is complete; unknown until the run has ended."""
    FINISHED = "Finished"
    """The run has ended, well or not, and will do nothing more."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """A metav1 condition."""

    type: ConditionType
    """Which condition this is."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: int = Field(default=0, ge=0)
    """Generation of the spec that this condition was derived from."""
    last_transition_time: Time
    """When `status` last changed."""
    reason: Reason
    """CamelCase cause."""
    message: Message = ""
    """The cause in a sentence."""


class PhaseState(StrEnum):
    """Where a phase stands."""

    PENDING = "Pending"
    """Not begun, or waits to be begun again."""
    RUNNING = "Running"
    """An attempt is alive, or its start has been decided."""
    BACKING_OFF = "BackingOff"
    """An attempt failed; the next one starts at `nextAttemptTime`."""
    SUCCEEDED = "Succeeded"
    """Complete."""
    SKIPPED = "Skipped"
    """An existing model takes its place."""
    STOPPED = "Stopped"
    """Ended by the guard or a deadline."""
    FAILED = "Failed"
    """Ended the run by its own verdict, or by too many failures."""

    @property
    def is_done(self) -> bool:
        """Whether the next phase may start."""
        return self in (PhaseState.SUCCEEDED, PhaseState.SKIPPED)


class AttemptStop(ApiModel):
    """The intent to end an attempt; written before anything is done about it."""

    reason: Reason
    """CamelCase cause."""
    time: Time
    """When it was decided: the grace period counts from here."""


class WatchStatus(ApiModel):
    """What whoever watches from outside knows about an attempt's KL: the guard's state."""

    last_step: int | None = None
    """Newest step that was judged; that step and earlier ones change nothing any more."""
    kl_streak: int = Field(default=0, ge=0)
    """Steps running with KL above its limit, since the last breach."""
    kl_over_ceiling: bool = False
    """Whether KL was above its ceiling when it was last seen."""
    breach: Reason | None = None
    """CamelCase cause, once the rule on KL is met."""
    breach_message: Message = ""
    """Value, limit, steps and what to do, in a sentence."""
    breach_step: int | None = None
    """Completed updates at the breach."""
    breach_kl_nats: float | None = None
    """KL per response at the breach, in nats."""
    breach_time: Time | None = None
    """When the breach was seen: from then on the trainer has two scrape intervals to end."""


class AttemptStatus(ApiModel):
    """The attempt that is alive, or whose start has been decided."""

    number: int = Field(ge=1)
    """Attempts count from 1."""
    start_time: Time
    """When its start was decided."""
    checkpoint_step_before: int | None = None
    """Newest checkpoint of earlier attempts: a later one means that this attempt got further."""
    job_uid: str | None = Field(default=None, max_length=64)
    """UID of its job, once seen: a job that is gone afterwards has been deleted by somebody."""
    watch: WatchStatus | None = None
    """The rule on KL as counted from outside (PPO), whoever applies it."""
    heartbeat: int | None = None
    """Last heartbeat seen: a number that stands still is a hang."""
    heartbeat_time: Time | None = None
    """When the heartbeat last moved, on the clock of whoever watches."""
    progress_time: Time | None = None
    """When progress was last taken into this status: at most twice a minute."""
    stop: AttemptStop | None = None
    """Set once the attempt is to end."""


class PhaseSize(ApiModel):
    """What every attempt at a phase gets: the number of processes is fixed within a phase."""

    nodes: int = Field(ge=1)
    """Machines."""
    gpus_per_node: int = Field(ge=0)
    """GPUs per machine."""
    processes_per_node: int = Field(ge=1)
    """Processes per machine."""

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus_per_node


class PhaseStatus(ApiModel):
    """One phase of one iteration."""

    iteration: int = Field(ge=1)
    """Iterations count from 1."""
    phase: Phase
    """Which phase this is."""
    state: PhaseState = PhaseState.PENDING
    """Where the phase stands."""
    attempts: int = Field(default=0, ge=0)
    """Attempts begun so far."""
    failures: int = Field(default=0, ge=0)
    """Counted failures in a row that brought no new checkpoint."""
    interruptions: int = Field(default=0, ge=0)
    """Uncounted ends in a row that brought no new checkpoint; from the second on they are followed
    after a pause.
    """
    running: AttemptStatus | None = None
    """The live attempt."""
    start_time: Time | None = None
    """When its first attempt began."""
    active_since: Time | None = None
    """Start of its active time: `startTime`, moved forward by every pause."""
    finish_time: Time | None = None
    """When it ended for good."""
    next_attempt_time: Time | None = None
    """End of the back-off."""
    job: str | None = Field(default=None, max_length=63)
    """Job of the newest attempt; `rlhf run` has none."""
    pod: str | None = Field(default=None, max_length=253)
    """Pod of the newest attempt that has ended, if it was left for its log."""
    watch: WatchStatus | None = None
    """The guard's state at the end of its last attempt that measured KL: the next one goes on from
    it.
    """
    avoid_node: str | None = Field(default=None, max_length=253)
    """Node where the last attempt failed: the next one is placed elsewhere if that is possible."""
    size: PhaseSize | None = None
    """Size of the phase, as it was placed when its first attempt began."""
    gpu_seconds: int = Field(default=0, ge=0)
    """GPUs times the time from an attempt's start to its end, over all attempts, in seconds."""
    last_failure: Message = ""
    """Why the last attempt that did not complete ended."""
    step: int | None = None
    """Completed updates."""
    checkpoint_step: int | None = None
    """Newest complete checkpoint of all attempts."""
    certified_step: int | None = None
    """Newest step whose policy was measured inside the KL limit."""
    metrics: dict[str, float] = Field(default_factory=dict, max_length=MAXIMUM_METRICS)
    """Last measurements while it runs, headline numbers once it has ended; camelCase, units in
    names.
    """
    model_path: str | None = Field(default=None, max_length=4096)
    """Exported model below the run's root, or the model that takes the phase's place."""

    @property
    def key(self) -> PhaseKey:
        """Which phase of which iteration this is."""
        return PhaseKey(self.iteration, self.phase)


class LiveAttempt(NamedTuple):
    """The live attempt of a run, with its phase and name."""

    phase: PhaseStatus
    attempt: AttemptStatus
    key: AttemptKey


class StoppedBy(StrEnum):
    """Who ended a run before its time."""

    TRAINER = "Trainer"
    """A phase, by its outcome."""
    OPERATOR = "Operator"
    """Whoever drives the run: the operator, or `rlhf run`."""


class StopStatus(ApiModel):
    """Why the run ends before all phases are complete; written before anything is done about it."""

    outcome: RunOutcome
    """How the run will have ended."""
    reason: Reason
    """CamelCase cause, such as KLLimitExceeded."""
    by: StoppedBy
    """Who decided it."""
    message: Message
    """Cause, value, limit and what to do, in a sentence."""
    time: Time
    """When it was decided."""
    iteration: int | None = None
    """Iteration it happened in."""
    phase: Phase | None = None
    """Phase it happened in."""
    kl_nats: float | None = None
    """KL per response that was measured, in nats."""
    limit_nats: float | None = None
    """KL per response that was exceeded, in nats."""
    step: int | None = None
    """Completed updates of the phase."""
    certified_step: int | None = None
    """Newest step whose policy was measured inside the KL limit."""
    checkpoint: str | None = Field(default=None, max_length=1024)
    """The certified policy, as a folder below the run's root; of step 0 with `sft.from`, below the
    data.
    """


class Headline(ApiModel):
    """The newest numbers, rounded for reading."""

    step: int | None = None
    """Completed updates of the newest phase."""
    kl_nats: float | None = None
    """KL per response to the SFT policy, in nats."""
    reward_score: float | None = None
    """Normalised score of the reward model."""
    entropy_nats_per_token: float | None = None
    """Entropy of the policy, in nats per token."""


HEADLINE_DIGITS = 3
"""Decimals of a headline: kubectl prints a number as it is."""


class RunStatus(ApiModel):
    """The status of a run."""

    observed_generation: int = Field(default=0, ge=0)
    """Generation of the spec that this status belongs to; 0 before the first visit."""
    phase: str = Field(default="Pending", max_length=64)
    """For people and printer columns only: the phase that is due, or how the run ended."""
    start_time: Time | None = None
    """When the first attempt began."""
    active_since: Time | None = None
    """Start of the run's active time: `startTime`, moved forward by every pause."""
    suspend_time: Time | None = None
    """Since when the run pauses."""
    finish_time: Time | None = None
    """When the run ended."""
    outcome: RunOutcome | None = None
    """How the run ended; set once, and then nothing changes any more."""
    stop: StopStatus | None = None
    """Why the run ends before all phases are complete."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=16)
    """One condition of each type."""
    phases: tuple[PhaseStatus, ...] = Field(default=(), max_length=1024)
    """Phases in the order in which they run, keyed by iteration and phase."""

    @field_validator("phases")
    @classmethod
    def each_phase_once(cls, phases: tuple[PhaseStatus, ...]) -> tuple[PhaseStatus, ...]:
        """The API server does not look: to it the list is one value."""
        if len({phase.key for phase in phases}) < len(phases):
            msg = "a phase of an iteration appears twice"
            raise ValueError(msg)
        return phases

    @computed_field  # type: ignore[prop-decorator]  # mypy#1362
    @property
    def headline(self) -> Headline:
        """The newest numbers of all phases, for printer columns."""
        begun = [phase for phase in self.phases if phase.attempts]
        metrics: dict[str, float] = {}
        for phase in begun:
            metrics |= phase.metrics
        names = ("klNats", "rewardScore", "entropyNatsPerToken")
        rounded = {name: round(metrics[name], HEADLINE_DIGITS) for name in names if name in metrics}
        step = begun[-1].step if begun else None
        return Headline.model_validate({"step": step, **rounded})

    @property
    def live(self) -> LiveAttempt | None:
        """The live attempt: there is never more than one."""
        for phase in self.phases:
            if phase.running is not None:
                key = AttemptKey(phase.iteration, phase.phase, phase.running.number)
                return LiveAttempt(phase, phase.running, key)
        return None

    @property
    def due(self) -> PhaseStatus | None:
        """The first phase that is not done yet."""
        return next((phase for phase in self.phases if not phase.state.is_done), None)

    def condition(self, type_: ConditionType) -> Condition | None:
        """Return the condition of one type, if it has been set."""
        return next((condition for condition in self.conditions if condition.type is type_), None)

    def with_phase(self, changed: PhaseStatus) -> "RunStatus":
        """Return a copy in which `changed` takes the place of the phase with its key."""
        phases = (changed if phase.key == changed.key else phase for phase in self.phases)
        return self.evolve(phases=tuple(phases))
