"""One `rlhf run` per workspace: a lock that the kernel gives back however its holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rlhf_operator.errors import WorkspaceInUseError
from rlhf_operator.local.store import writing
from rlhf_trainer.contract import Workspace


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace.

    Raises:
        WorkspaceInUseError: somebody else does.
        WorkspaceError: the lock's file cannot be written.
    """
    with writing(workspace.lock):
        workspace.root.mkdir(parents=True, exist_ok=True)
        # For appending: who does not get the lock must not wipe the holder's name.
        file = workspace.lock.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise WorkspaceInUseError(
                f"workspace={workspace.root}: in use by another rlhf run (process {holder}); "
                "wait for it, stop it, or use another --workspace"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
