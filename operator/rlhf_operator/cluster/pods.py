"""What one pod of an attempt shows: whether it is alive, how it ended, what keeps it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from rlhf_operator.cluster.kinds import Json
from rlhf_operator.decide import Trouble
from rlhf_trainer.contract import Outcome, Result

CONTAINER = "pytorch"
"""The training operator's name for the container that counts."""

REPLICA_TYPE = "training.kubeflow.org/replica-type"

MASTER = "master"

LOST_AFTER = timedelta(seconds=60)
"""How long past its deadline a deleted pod must be overdue before its node counts as lost."""

_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)

_WAITING_REASONS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)

_LOST_REASON = "ContainerStatusUnknown"
"""What stands in a container's state if its kubelet never told how it ended."""

_EVICTED = "Evicted"
"""What stands in the status of a pod that its kubelet has ended, or has not let in."""

_LONGEST_WORDS = 300


@dataclass(frozen=True)
class PodFacts:
    """One pod, dead or alive."""

    name: str
    is_master: bool
    alive: bool
    exit_code: int | None = None
    result: Result | None = None
    disrupted: bool = False
    """It was ended from outside, and something says so."""
    vanished: bool = False
    """It is gone and left no exit code: ended from outside, or with its job."""
    message: str = ""
    """How it ended, in words."""
    trouble: Trouble | None = None
    address: str | None = None
    """Where it answers, once it runs."""
    lost_at: datetime | None = None
    """When its node counts as lost if it is not gone by then."""
    node: str | None = None
    """Where it runs or ran."""
    is_lost: bool = False
    """Its node is lost: nobody will tell any more how it ended."""
    exists: bool = True
    """It can still be asked for its log."""

    @property
    def outcome(self) -> Outcome:
        """How it ended; a pod that left no exit code crashed."""
        if self.exit_code is None:
            return Outcome.CRASHED
        return Outcome.from_exit_code(self.exit_code)


def pod_facts(pod: Json, now: datetime, *, gone: bool) -> PodFacts:
    """Read a pod; `gone` says that it does not exist any more."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    over = pod_ended(pod)
    lost_at = _lost_at(metadata)
    lost = lost_at is not None and now >= lost_at
    ended = _terminated(status)
    if ended is not None and not over and not gone:
        # Other containers may still run: what counts is known, and the pod is about to end.
        over = len(status.get("containerStatuses") or ()) == 1
    alive = not (over or gone or lost)
    name = metadata["name"]
    code = ended.get("exitCode") if ended else None
    text = str(ended.get("message") or "") if ended else ""
    result = _result(text)
    own_fault = None if alive else _own_fault(name, status)
    if own_fault is not None:
        code, result = _crash(code, result, own_fault)
    return PodFacts(
        name=name,
        is_master=(metadata.get("labels") or {}).get(REPLICA_TYPE, MASTER) == MASTER,
        alive=alive,
        exit_code=code,
        result=result,
        disrupted=not alive and own_fault is None and _disrupted(status, ended),
        vanished=not alive and code is None and not _failed_init(status),
        message="" if alive or result else own_fault or _words(name, status, ended, text),
        trouble=_trouble(name, status) if alive else None,
        address=status.get("podIP") if alive and status.get("phase") == "Running" else None,
        lost_at=lost_at if alive else None,
        node=(pod.get("spec") or {}).get("nodeName"),
        is_lost=lost and code is None,
        exists=not (gone or lost or lost_at),
    )


def pod_ended(pod: Json) -> bool:
    """Return whether a pod is over and stays as it is until it is deleted."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def instant(text: str) -> datetime:
    """Read a time of the API server's."""
    return datetime.fromisoformat(text)


def _lost_at(metadata: Json) -> datetime | None:
    """Return when a pod that is being deleted counts as lost: its own deadline, and a minute."""
    deadline = metadata.get("deletionTimestamp")
    return instant(deadline) + LOST_AFTER if deadline else None


def _terminated(status: Json) -> Json | None:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            ended: Json | None = (container.get("state") or {}).get("terminated")
            return ended
    return None


def _result(text: str) -> Result | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        return Result.from_json(text)
    except (ValidationError, ValueError):
        return None


def _disrupted(status: Json, ended: Json | None) -> bool:
    """Return whether something other than the trainer ended the pod."""
    if _condition(status, "DisruptionTarget"):
        return True
    lost = ended is not None and ended.get("reason") == _LOST_REASON
    return lost or bool(status.get("reason"))


def _own_fault(name: str, status: Json) -> str | None:
    """Return, in words, for which fault of its own a pod was ended by its node; None for others.

    A kubelet evicts a pod that holds more local storage than its own limits allow. It gives the
    same reason where the node runs short, but beside a DisruptionTarget (since Kubernetes 1.26),
    and where it does not let a pod in: no container is there then.
    """
    if status.get("reason") != _EVICTED or _condition(status, "DisruptionTarget"):
        return None
    if not status.get("containerStatuses"):
        return None
    said = _short(status.get("message")).rstrip(". ")
    return (
        f"pod {name} was evicted for more local storage than its limits allow: {said}; "
        "raise that limit"
    )


def _crash(code: int | None, result: Result | None, message: str) -> tuple[int, Result | None]:
    """Return the end of a pod that brought it about, whatever it said to a SIGTERM; verdicts stand.

    Its result still tells how far it came.
    """
    if code is None or code == Outcome.PREEMPTED.exit_code:
        code = Outcome.CRASHED.exit_code
    elif Outcome.from_exit_code(code) is not Outcome.CRASHED:
        return code, result
    if result is not None:
        result = result.model_copy(update={"outcome": Outcome.CRASHED, "message": message})
    return code, result


def _condition(status: Json, type_: str) -> Json | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == type_ and condition.get("status") == "True":
            found: Json = condition
            return found
    return None


def _failed_init(status: Json) -> Json | None:
    for container in status.get("initContainerStatuses") or ():
        ended: Json | None = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return {**ended, "name": container.get("name")}
    return None


def _words(name: str, status: Json, ended: Json | None, text: str) -> str:
    """Return how a pod ended, for people, where the trainer itself could not say it."""
    disruption = _condition(status, "DisruptionTarget")
    if disruption is not None:
        return f"pod {name} was ended from outside ({disruption.get('reason')})"
    if ended is not None and ended.get("reason") == "OOMKilled":
        return (
            f"pod {name} was killed for using more memory than its limit (OOMKilled); "
            "raise the pool's memory, or lower batch sizes"
        )
    if status.get("reason"):
        return (
            f"pod {name} was ended by its node: {_short(status.get('message')) or status['reason']}"
        )
    init = _failed_init(status)
    if init is not None:
        code = init.get("exitCode")
        return f"init container {init['name']} of pod {name} failed with exit code {code}"
    if ended is None:
        return f"pod {name} is gone and left no exit code"
    last = _short(text.strip().splitlines()[-1]) if text.strip() else ""
    said = f": {last}" if last and ended.get("exitCode") else ""
    return f"pod {name} ended with exit code {ended.get('exitCode')}{said}"


def _short(text: object) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 1] + "…"


def _trouble(name: str, status: Json) -> Trouble | None:
    """Return what keeps a pod from running."""
    scheduled: Json = next(
        (one for one in status.get("conditions") or () if one.get("type") == "PodScheduled"), {}
    )
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        said = _short(scheduled.get("message"))
        return Trouble("Unschedulable", f"pod {name} finds no node: {said}")
    containers = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in _IMAGE_REASONS:
            image = container.get("image") or "its image"
            return Trouble(
                "ImagePullFailed",
                f"pod {name} cannot pull {image}; correct spec.image or the pull secrets: "
                f"kubectl describe pod {name}",
            )
        if reason in _WAITING_REASONS:
            return Trouble(reason, f"pod {name} cannot start: {_short(waiting.get('message'))}")
    return None
