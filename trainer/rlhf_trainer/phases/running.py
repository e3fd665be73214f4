"""Running one phase on one rank: which function it is, and what its end means."""

import importlib
import os
import time
import traceback
from collections.abc import Callable

import torch

from rlhf_trainer.contract import Outcome, Phase, Result
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.lineage import complete_steps
from rlhf_trainer.errors import Facts, PhaseError, WorkspaceError
from rlhf_trainer.files import write_failure
from rlhf_trainer.phases.context import PhaseContext, PhaseReport

ALLOCATION_FAILURES = (
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cuda failure 'out of memory'",
)
"""How PyTorch's CPU allocator, C++ below it, CUDA, cuBLAS and NCCL say that memory has run out;
torch.OutOfMemoryError is only of PyTorch's own allocator on the GPU."""

OUT_OF_MEMORY_FIX = (
    "lower tokensPerMicroBatch of the phase, set model.gradientCheckpointing, "
    "or raise deepspeed.zeroStage"
)


def run_phase(context: PhaseContext) -> Result:
    """Run the phase and return how it ended; only signals and exits escape."""
    started = time.monotonic()
    try:
        result = _completed(context, _run(context))
    except PhaseError as error:
        result = _result(context, error.outcome, error.message, error.reason, error.facts)
    except Exception as error:  # noqa: BLE001 - every other end is told apart here, for the exit code
        traceback.print_exc()
        result = _unexpected(context, error)
    return result.model_copy(update={"duration_seconds": round(time.monotonic() - started, 3)})


def _run(context: PhaseContext) -> PhaseReport:
    if context.phase is Phase.PREPARATION:
        # It holds no accelerator; a library that looks for one is not to complain.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        from rlhf_trainer.phases import preparation  # noqa: PLC0415 - the others need not load it

        return preparation.run(context)
    ranks = process_group.start(context.config.model.device)
    # For dropout; every other draw has a generator of its own.
    torch.manual_seed(context.config.seed * ranks.world_size + ranks.rank)
    report = _trained_phase(context.phase)(context, ranks)
    ranks.barrier()
    process_group.stop()
    return report


def _trained_phase(phase: Phase) -> Callable[[PhaseContext, process_group.Ranks], PhaseReport]:
    """Return the phase's `run`: its module loads DeepSpeed, which asks for a device at once."""
    module = importlib.import_module(f"rlhf_trainer.phases.{phase.slug.replace('-', '_')}")
    run: Callable[[PhaseContext, process_group.Ranks], PhaseReport] = module.run
    return run


def _completed(context: PhaseContext, report: PhaseReport) -> Result:
    facts = Facts(report.step, report.certified_step, report.model_path, report.metrics)
    return _result(context, Outcome.COMPLETED, report.message, "", facts)


def _result(
    context: PhaseContext, outcome: Outcome, message: str, reason: str, facts: Facts
) -> Result:
    root = context.workspace.root
    return Result(
        phase=context.phase,
        outcome=outcome,
        message=message,
        reason=reason,
        step=facts.step,
        checkpoint_step=max(complete_steps(context.paths), default=None),
        certified_step=facts.certified_step,
        model_path=str(facts.model_path.relative_to(root)) if facts.model_path else None,
        metrics=dict(facts.metrics),
    )


def _unexpected(context: PhaseContext, error: Exception) -> Result:
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else ""
    if is_out_of_memory(error):
        message = f"out of memory: {first_line[:200]}; {OUT_OF_MEMORY_FIX}"
        return _result(context, Outcome.OUT_OF_MEMORY, message, "OutOfMemory", Facts())
    if cause := write_failure(error, context.workspace.root):
        failed = WorkspaceError(context.workspace.root, "a file", cause)
        return _result(context, failed.outcome, failed.message, failed.reason, Facts())
    message = f"{type(error).__name__}: {first_line[:500]}"
    return _result(context, Outcome.CRASHED, message, type(error).__name__, Facts())


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator, of the accelerator or the host, has failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error) for sign in ALLOCATION_FAILURES)
