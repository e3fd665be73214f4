"""What a status cannot say."""

import pytest
from pydantic import ValidationError

from rlhf_operator.api import PhaseStatus, RunStatus
from rlhf_trainer.contract import Phase


def test_phase_that_appears_twice_in_a_status_is_refused() -> None:
    ppo = PhaseStatus(iteration=1, phase=Phase.PPO)
    with pytest.raises(ValidationError, match="a phase of an iteration appears twice"):
        RunStatus(phases=(ppo, ppo))


def test_phase_may_appear_in_every_iteration() -> None:
    phases = tuple(PhaseStatus(iteration=one, phase=Phase.PPO) for one in (1, 2))
    assert RunStatus(phases=phases).phases == phases
