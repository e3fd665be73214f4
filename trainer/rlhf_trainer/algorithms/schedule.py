"""The learning rate over a phase, as a fraction of its largest value."""

import math
from typing import assert_never

from rlhf_trainer.config.base import LearningRateSchedule


def learning_rate_factor(
    step: int, total_steps: int, *, schedule: LearningRateSchedule, warmup_steps: int, final: float
) -> float:
    """Return the factor for the update after `step` completed ones.

    Linear warm-up over `warmup_steps`, then constant, or half a cosine that ends at `final`
    (InstructGPT, appendix C).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    match schedule:
        case LearningRateSchedule.CONSTANT:
            return 1.0
        case LearningRateSchedule.COSINE:
            done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        case _:
            assert_never(schedule)
