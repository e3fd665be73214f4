import pytest

from rlhf_trainer.algorithms.schedule import learning_rate_factor
from rlhf_trainer.config.base import LearningRateSchedule


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (LearningRateSchedule.CONSTANT, 0, 0.1),
        (LearningRateSchedule.CONSTANT, 9, 1.0),
        (LearningRateSchedule.CONSTANT, 50, 1.0),
        (LearningRateSchedule.COSINE, 10, 1.0),
        (LearningRateSchedule.COSINE, 60, 0.55),
        (LearningRateSchedule.COSINE, 110, 0.1),
        (LearningRateSchedule.COSINE, 500, 0.1),
    ],
    ids=["warm-up", "warm", "flat", "cosine-start", "cosine-middle", "cosine-end", "after-end"],
)
def test_learning_rate_factor(schedule: LearningRateSchedule, step: int, expected: float) -> None:
    factor = learning_rate_factor(step, 110, schedule=schedule, warmup_steps=10, final=0.1)
    assert factor == pytest.approx(expected)


def test_learning_rate_factor_without_warm_up_starts_at_one() -> None:
    factor = learning_rate_factor(
        0, 10, schedule=LearningRateSchedule.COSINE, warmup_steps=0, final=0.0
    )
    assert factor == 1.0
