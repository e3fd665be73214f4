"""One rank of one phase: the launcher starts it with its own arguments."""

import os
import signal
import sys
from collections.abc import Sequence

from rlhf_trainer.contract import Result, Workspace
from rlhf_trainer.errors import WorkspaceError
from rlhf_trainer.launch.arguments import Arguments
from rlhf_trainer.launch.orphan import die_with_parent
from rlhf_trainer.telemetry.outcome import write_rank_outcome
from rlhf_trainer.telemetry.telemetry import RunInfo, Telemetry


def main(argv: Sequence[str]) -> int:
    """Run this rank's part of the phase, leave its outcome, and return the outcome's exit code."""
    die_with_parent()
    arguments = Arguments.parse(argv)
    rank = int(os.environ.get("RANK", "0"))
    if modules := os.environ.get("HF_MODULES_CACHE"):
        # Code of models is copied there in place: another rank would read half of it.
        os.environ["HF_MODULES_CACHE"] = f"{modules}/rank-{rank}"
    # After the cheap checks: this import costs seconds.
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    from rlhf_trainer.phases.context import PhaseContext, Preemption  # noqa: PLC0415
    from rlhf_trainer.phases.running import run_phase  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    preemption = Preemption()
    signal.signal(signal.SIGTERM, preemption.request)
    info = RunInfo(arguments.run_name, arguments.phase, arguments.iteration, arguments.attempt)
    result = None
    try:
        with Telemetry.open(
            arguments.paths, info, port=arguments.metrics_port, is_main=rank == 0
        ) as telemetry:
            context = PhaseContext(
                config=arguments.load_config(),
                workspace=Workspace(arguments.workspace),
                data_root=arguments.data_root,
                phase=arguments.phase,
                iteration=arguments.iteration,
                attempt=arguments.attempt,
                telemetry=telemetry,
                preemption=preemption,
                hardware=arguments.load_hardware(),
            )
            result = run_phase(context)
    except OSError as error:
        # What telemetry could not write changes nothing about a phase that has ended.
        result = result or _unwritable(arguments, error)
    write_rank_outcome(arguments.paths, rank, result)
    return result.outcome.exit_code


def _unwritable(arguments: Arguments, error: OSError) -> Result:
    failed = WorkspaceError(arguments.workspace, "the history", error)
    return Result(
        phase=arguments.phase,
        outcome=failed.outcome,
        message=failed.message,
        reason=failed.reason,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
