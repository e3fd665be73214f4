"""Who decides which response is better: the reward model, or a function of the user's own."""

import importlib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_trainer.config.evaluation import JudgeConfig
from rlhf_trainer.errors import InvalidError, PhaseError

_PLACE = "spec.evaluation.judge.entryPoint"

EntryPoint = Callable[[Sequence[str], Sequence[str], Path], Sequence[float]]
"""From prompts, responses and the data root to one score per response; higher is better."""


def load_entry_point(judge: JudgeConfig) -> EntryPoint | None:
    """Return the judge's function, or None where the reward model judges.

    Raises:
        InvalidError: the module cannot be imported, whatever it raises, or has no such function.
    """
    if judge.entry_point is None:
        return None
    module_name, _, function_name = judge.entry_point.partition(":")
    try:
        function: EntryPoint = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # an import runs code that is not ours
        raise InvalidError(
            _PLACE,
            judge.entry_point,
            f"cannot be loaded: {_first_line(error)}",
            "correct its name, or install the module in the trainer's environment",
        ) from error
    if not callable(function):
        raise InvalidError(_PLACE, judge.entry_point, "is no function", "name one")
    return function


def entry_point_scores(
    function: EntryPoint, prompts: Sequence[str], responses: Sequence[str], data_root: Path
) -> NDArray[np.float64]:
    """Return the function's scores, one finite number per response.

    Raises:
        InvalidError: it raised an error, or returned something else.
    """
    name = getattr(function, "__name__", function)
    returned = _call(function, name, prompts, responses, data_root)
    fix = "return one finite number per response"
    try:
        scores = np.asarray(returned, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidError(_PLACE, name, f"returned no numbers: {error}", fix) from error
    if scores.shape != (len(responses),):
        problem = f"returned scores of shape {scores.shape} for {len(responses)} responses"
        raise InvalidError(_PLACE, name, problem, fix)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise InvalidError(_PLACE, name, f"returned {count} scores that are not finite", fix)
    return scores


def _call(
    function: EntryPoint,
    name: object,
    prompts: Sequence[str],
    responses: Sequence[str],
    data_root: Path,
) -> Sequence[float]:
    try:
        return function(prompts, responses, data_root)
    except (PhaseError, MemoryError, torch.OutOfMemoryError):
        raise  # they have an outcome of their own
    except Exception as error:
        traceback.print_exc()  # the author of the function needs the line
        raise InvalidError(
            _PLACE,
            name,
            f"raised {type(error).__name__}: {_first_line(error)}",
            "correct the function (the log has its traceback), or use kind RewardModel",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
