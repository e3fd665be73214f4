"""Errors for people, one class per remedy; their exit codes are the CLI's business."""

from collections.abc import Sequence
from typing import Final

SHOWN_CHARACTERS = 60
"""Longest value quoted in a message: enough to recognise it, short enough for one line."""

RUN_AGAIN = "to run it again, use --fresh, or another --workspace"
"""What to do about a run that has ended: its workspace never runs it again."""


class _Unset:
    """Marks a field that has no value to show."""


UNSET: Final = _Unset()


class OperatorError(Exception):
    """Something a person has to know about."""


class SpecError(OperatorError):
    """The user must edit the manifest or an option: `place: field=value: problem; fix`."""

    def __init__(
        self, *, field: str, problem: str, fix: str, value: object = UNSET, place: str = ""
    ) -> None:
        head = field if value is UNSET else f"{field}={shown(value)}"
        super().__init__(": ".join(part for part in (place, head, f"{problem}; {fix}") if part))
        self.field, self.value, self.problem, self.fix = field, value, problem, fix


class InvalidManifestError(OperatorError):
    """A manifest has one or more problems, in the order of its lines."""

    def __init__(self, problems: Sequence[OperatorError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class WorkspaceInUseError(OperatorError):
    """Another `rlhf run` works in the workspace: the user waits or takes another one."""


class WorkspaceError(OperatorError):
    """The workspace cannot be written: the user makes room, sets rights or takes another one."""


class TrainerError(OperatorError):
    """A command of the trainer failed unexpectedly: the user reads what it printed."""


class ClusterError(OperatorError):
    """The API server did not do what it was asked to: the next pass tries again."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason
        self.after_status = False
        """Set where the run's status had been written before."""

    @property
    def is_refusal(self) -> bool:
        """Whether somebody has to change something before it can succeed."""
        return self.status in _REFUSALS


_REFUSALS = frozenset({400, 403, 404, 422})


def shown(value: object) -> str:
    """Return `value` as the manifest would spell it, on one line and not too long."""
    match value:
        case None:
            text = "null"
        case bool():
            text = str(value).lower()
        case dict():
            text = "{…}" if value else "{}"
        case list():
            text = "[…]" if value else "[]"
        case _:
            text = " ".join(str(value).split()) or '""'
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
