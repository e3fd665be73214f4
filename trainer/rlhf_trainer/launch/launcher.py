"""One attempt at one phase, from command line to exit code.

Ranks say how they ended in `outcome-<rank>.json`; node rank 0 leaves the verdict in `result.json`,
every node in its termination message.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import AttemptPaths, Outcome, Progress, Result
from rlhf_trainer.errors import InvalidError, PhaseError, WorkspaceError
from rlhf_trainer.launch.agent import AgentEnd, run_agent
from rlhf_trainer.launch.allocator import allocator_variables, is_on_gpu
from rlhf_trainer.launch.arguments import Arguments
from rlhf_trainer.launch.orphan import LAUNCHER_PID_VARIABLE, adopt_orphans, end_children
from rlhf_trainer.launch.termination import Termination
from rlhf_trainer.launch.threads import threads_per_rank
from rlhf_trainer.launch.topology import Topology
from rlhf_trainer.launch.verdict import Circumstances, RankEnd, judge
from rlhf_trainer.telemetry.outcome import (
    spare_rank_outcome,
    write_result,
    write_termination_message,
)

logger = logging.getLogger(__name__)

RANK_MODULE = "rlhf_trainer"
"""What every rank runs: `python -m rlhf_trainer`, with the launcher's arguments."""

_SHARE_OF_GRACE = 0.1
_LEAST_SECONDS = 5
"""What is kept of the grace period for the verdict, before the kubelet's SIGKILL."""


def main(argv: Sequence[str], module: str = RANK_MODULE) -> int:
    """Run what the command line asks for and return the exit code of its outcome."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        arguments = Arguments.parse(argv)
    except InvalidError as error:
        logger.error("Invalid: %s", error.message)  # noqa: TRY400 - the user's mistake, not ours
        return error.outcome.exit_code
    told = _told_before(arguments.paths)
    if told is not None:
        logger.info("this attempt is complete already: %s", told.message)
        write_termination_message(told)
        return told.outcome.exit_code
    try:
        topology, config = _prepare(arguments)
    except PhaseError as error:
        return _refuse(arguments, error)
    return _Launch(arguments, topology, config, module).run()


def _told_before(paths: AttemptPaths) -> Result | None:
    """Return what a launcher of this very attempt said if it completed the phase.

    A job that is made a second time, by a leader that froze on the way, must not undo what the
    next phases build on.
    """
    try:
        told = Result.from_json(paths.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if told.outcome is Outcome.COMPLETED else None


def _prepare(arguments: Arguments) -> tuple[Topology, TrainingConfig]:
    """Check what can be checked before a rank is started; make the attempt's folder."""
    topology = Topology.read(os.environ, arguments.phase, arguments.processes)
    paths = arguments.paths
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        if topology.node_rank == 0:
            # Ranks start only once this node has joined: no verdict of theirs can be lost here.
            for old in (paths.result, *paths.root.glob("outcome-*.json")):
                old.unlink(missing_ok=True)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        problem = f"cannot be written ({error.strerror})"
        fix = "name a folder that this user may write to"
        raise InvalidError("workspace", arguments.workspace, problem, fix) from error
    except OSError as error:
        raise WorkspaceError(arguments.workspace, "the attempt's folder", error) from error
    config = arguments.load_config()
    arguments.load_hardware()
    return topology, config


def _refuse(arguments: Arguments, error: PhaseError) -> int:
    result = Result(
        phase=arguments.phase, outcome=error.outcome, message=error.message, reason=error.reason
    )
    logger.error("%s: %s", result.outcome, result.message)
    with suppress(OSError):  # the workspace may be what is wrong
        write_result(arguments.paths, result)
    write_termination_message(result)
    return error.outcome.exit_code


class _Launch:
    """The ranks of this node and their verdict."""

    def __init__(
        self, arguments: Arguments, topology: Topology, config: TrainingConfig, module: str
    ) -> None:
        kept = max(_LEAST_SECONDS, _SHARE_OF_GRACE * arguments.grace_seconds)
        deadline_seconds = max(1.0, arguments.grace_seconds - kept / 2)
        self._arguments = arguments
        self._topology = topology
        self._config = config
        self._module = module
        self._shutdown_seconds = max(1, int(arguments.grace_seconds - kept))
        self._termination = Termination(self._conclude, deadline_seconds)
        self._end = AgentEnd()
        self._began = time.monotonic()

    def run(self) -> int:
        """Run the ranks and return the exit code."""
        device = self._config.model.device
        threads = threads_per_rank(
            self._topology.processes,
            on_gpu=is_on_gpu(device),
            offload_optimizer=self._config.deepspeed.offload_optimizer,
        )
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ |= allocator_variables(os.environ, device)
        os.environ[LAUNCHER_PID_VARIABLE] = str(os.getpid())
        self._termination.install()
        adopt_orphans()
        self._end = run_agent(
            self._topology, self._module, self._arguments.to_argv(), self._shutdown_seconds
        )
        return self._termination.settle()

    def _conclude(self) -> int:
        end_children()
        paths = self._arguments.paths
        verdict = judge(self._rank_ends(paths), self._circumstances(paths))
        result = verdict.result
        if not result.duration_seconds:
            seconds = round(time.monotonic() - self._began, 3)
            result = result.model_copy(update={"duration_seconds": seconds})
        if self._topology.node_rank == 0:
            with suppress(OSError):  # the termination message and the exit code say the same
                write_result(paths, result)
        write_termination_message(result)
        level = logging.INFO if result.outcome is Outcome.COMPLETED else logging.ERROR
        logger.log(
            level,
            "%s attempt %d: %s (exit %d): %s",
            self._arguments.phase.slug,
            self._arguments.attempt,
            result.outcome,
            verdict.exit_code,
            result.message,
        )
        return verdict.exit_code

    def _rank_ends(self, paths: AttemptPaths) -> list[RankEnd]:
        """Return this node's ranks in the order in which they ended, then what others wrote."""
        results = _written(paths)
        codes = self._end.exit_codes
        local = [*codes, *(rank for rank in self._topology.local_ranks if rank not in codes)]
        ends = [RankEnd(rank, results.pop(rank, None), codes.get(rank)) for rank in local]
        return ends + [RankEnd(rank, result) for rank, result in sorted(results.items())]

    def _circumstances(self, paths: AttemptPaths) -> Circumstances:
        return Circumstances(
            phase=self._arguments.phase,
            terminated=self._end.terminated or self._termination.received,
            several_nodes=self._topology.nodes > 1,
            agent_error=self._end.error,
            log=str(paths.log) if paths.log.exists() else "the launcher's output",
            step=_last_step(paths),
        )


def _written(paths: AttemptPaths) -> dict[int, Result]:
    results: dict[int, Result] = {}
    spare = spare_rank_outcome(0, os.getpid())
    spares = spare.parent.glob(spare.name.replace("-0.json", "-*.json"))
    for path in (*paths.root.glob("outcome-*.json"), *spares):
        rank = path.stem.rpartition("-")[2]
        if rank.isdecimal():
            with suppress(OSError, ValidationError):  # as good as not written
                results[int(rank)] = Result.from_json(path.read_text(encoding="utf-8"))
    return results


def _last_step(paths: AttemptPaths) -> int:
    with suppress(OSError, ValidationError):
        return Progress.model_validate_json(paths.progress.read_text(encoding="utf-8")).step
    return 0
