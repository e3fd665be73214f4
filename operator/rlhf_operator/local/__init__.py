"""The backend of `rlhf run`: phases are processes, status is a file in the workspace."""

from rlhf_operator.local.backend import LocalBackend
from rlhf_operator.local.continuing import open_run
from rlhf_operator.local.lock import locked
from rlhf_operator.local.refusal import local_refusal
from rlhf_operator.local.store import RunStore

__all__ = ["LocalBackend", "RunStore", "local_refusal", "locked", "open_run"]
