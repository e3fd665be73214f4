"""Runs as processes: what is seen of an attempt, and how one is started and stopped.

What to do about it is decided in `decide`; who may work in a workspace, by its lock.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_operator.api import AttemptKey, Pool, RLHFRun, RunKey, placed
from rlhf_operator.api.spec import LOCAL_POOL
from rlhf_operator.decide import (
    Decision,
    Ended,
    Execution,
    Hold,
    LetGo,
    NotStarted,
    Observed,
    RemoveJob,
    RemoveRun,
    Running,
    StartAttempt,
    StopAttempt,
)
from rlhf_operator.local.processes import (
    KILL_TIMEOUT_SECONDS,
    exit_code,
    kill,
    kill_and_wait,
    members,
    start,
    terminate,
)
from rlhf_operator.local.progress import read_progress, read_result
from rlhf_operator.local.store import RunStore, write_durably
from rlhf_operator.render import hardware_of
from rlhf_trainer.contract import AttemptPaths, Phase, Workspace

LAUNCHER = (sys.executable, "-m", "rlhf_trainer.launch")


class LocalBackend:
    """The one run of a workspace, as processes of this machine."""

    def __init__(
        self, workspace: Workspace, data_root: Path, launcher: Sequence[str] = LAUNCHER
    ) -> None:
        self.workspace = workspace
        self.suspended = False
        """Set when the user interrupts: what is alive is stopped, nothing is started."""
        self._data_root = data_root
        self._launcher = tuple(launcher)
        self._store = RunStore(workspace, data_root)
        self._processes: dict[AttemptKey, subprocess.Popen[bytes]] = {}
        self._asked_to_end: set[AttemptKey] = set()

    async def observe(self, key: RunKey) -> tuple[RLHFRun, Observed] | None:
        """Return the workspace's run and what is alive of it."""
        run = self._store.load()
        if run is None or run.key != key:
            return None
        live = run.status.live
        executions = {live.key: self._look(live.key)} if live else {}
        return run, Observed(executions, suspended=self.suspended)

    async def apply(self, run: RLHFRun, decision: Decision) -> None:
        """Write the status, then start and stop what has been decided."""
        if decision.status != run.status:
            self._store.save(run.model_copy(update={"status": decision.status}))
        for action in decision.actions:
            match action:
                case StartAttempt():
                    self._start(action, run)
                case StopAttempt():
                    self._stop(action)
                case RemoveJob() | Hold() | LetGo() | RemoveRun():
                    # Processes leave no jobs behind, and a workspace belongs to its user.
                    continue

    def kill(self) -> None:
        """End everything that works in this workspace at once."""
        kill(self.workspace.root)

    def close(self) -> None:
        """End everything that works in this workspace and wait until it is gone."""
        kill_and_wait(self.workspace.root, KILL_TIMEOUT_SECONDS)
        for process in self._processes.values():
            process.wait()

    def paths(self, key: AttemptKey) -> AttemptPaths:
        """Return the files of an attempt."""
        return self.workspace.attempt(key.iteration, key.phase, key.attempt)

    def _look(self, key: AttemptKey) -> Execution:
        paths, process = self.paths(key), self._processes.get(key)
        if not paths.config.exists():
            return NotStarted()
        if process is not None and process.poll() is None:
            return Running(read_progress(paths))
        if members(paths.root):
            if process is not None:
                # Without their launcher nobody would tell these ranks to end.
                kill(paths.root)
            return Running(read_progress(paths))
        return self._ended(paths, process)

    def _ended(self, paths: AttemptPaths, process: subprocess.Popen[bytes] | None) -> Ended:
        progress, result = read_progress(paths), read_result(paths)
        if process is not None:
            return Ended(exit_code(process), result, progress=progress)
        # Started by an earlier `rlhf run`: without a result it went down with it.
        code = result.outcome.exit_code if result else None
        return Ended(code, result, disrupted=result is None, progress=progress)

    def _start(self, action: StartAttempt, run: RLHFRun) -> None:
        paths = self.paths(action.key)
        if paths.config.exists():
            return
        if action.key.phase is Phase.PREPARATION:
            # It plans memory, and refuses nothing: how much this machine can spare is not known.
            local = Pool(name=LOCAL_POOL)
            write_durably(paths.hardware, hardware_of(run.spec, {LOCAL_POOL: local}).to_json())
        config = action.config.model_dump_json(by_alias=True, indent=2)
        # The file's existence says that the attempt has been started; see `_look`.
        write_durably(paths.config, config)
        command = self._command(action.key, paths, run)
        self._processes[action.key] = start(command, paths.root, paths.log)

    def _command(self, key: AttemptKey, paths: AttemptPaths, run: RLHFRun) -> list[str]:
        options = {
            "--config": paths.config,
            "--workspace": self.workspace.root,
            "--data-root": self._data_root,
            "--iteration": key.iteration,
            "--attempt": key.attempt,
            "--run-name": run.metadata.name,
            "--processes": placed(run.spec.placement, key.phase).processes,
            "--metrics-port": 0,
            "--grace-seconds": run.spec.run_policy.termination_grace_period_seconds,
        }
        words = [str(word) for option in options.items() for word in option]
        return [*self._launcher, key.phase.slug, *words]

    def _stop(self, action: StopAttempt) -> None:
        root = self.paths(action.key).root
        if action.grace_seconds == 0:
            kill(root)
        elif action.key not in self._asked_to_end:
            # A second SIGTERM would tell torchrun to hurry.
            terminate(root)
            self._asked_to_end.add(action.key)
