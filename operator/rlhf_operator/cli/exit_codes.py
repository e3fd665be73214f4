"""Exit codes of `rlhf` that are no run's outcome."""

from rlhf_operator.api import RunOutcome
from rlhf_operator.errors import (
    InvalidManifestError,
    OperatorError,
    SpecError,
    WorkspaceInUseError,
)

FAILED = 1
WORKSPACE_IN_USE = 42
INTERRUPTED = 130
"""The run is not over; the same command goes on."""


def exit_code_of(error: OperatorError) -> int:
    """Return the exit code that an error ends the command with."""
    if isinstance(error, SpecError | InvalidManifestError):
        return RunOutcome.INVALID.exit_code
    return WORKSPACE_IN_USE if isinstance(error, WorkspaceInUseError) else FAILED
