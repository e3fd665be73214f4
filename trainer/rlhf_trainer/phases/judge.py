"""Who decides which response is better: the reward model, or a function of the user's own."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlhf_trainer.config.evaluation import JudgeConfig
from rlhf_trainer.errors import InvalidError

EntryPoint = Callable[[Sequence[str], Sequence[str], Path], Sequence[float]]
"""From prompts, responses and the data root to one score per response; higher is better."""


def load_entry_point(judge: JudgeConfig) -> EntryPoint | None:
    """Return the judge's function, or None where the reward model judges.

    Raises:
        InvalidError: the module cannot be imported or has no such function.
    """
    if judge.entry_point is None:
        return None
    module_name, _, function_name = judge.entry_point.partition(":")
    try:
        function: EntryPoint = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InvalidError(
            "spec.evaluation.judge.entryPoint",
            judge.entry_point,
            f"cannot be loaded: {error}",
            "install the module in the trainer's environment",
        ) from error
    return function


def entry_point_scores(
    function: EntryPoint, prompts: Sequence[str], responses: Sequence[str], data_root: Path
) -> NDArray[np.float64]:
    """Return the function's scores, one finite number per response.

    Raises:
        InvalidError: it returned something else.
    """
    scores = np.asarray(function(prompts, responses, data_root), np.float64)
    if scores.shape != (len(responses),) or not np.isfinite(scores).all():
        raise InvalidError(
            "spec.evaluation.judge.entryPoint",
            getattr(function, "__name__", function),
            f"returned scores of shape {scores.shape} for {len(responses)} responses",
            "return one finite number per response",
        )
    return scores
