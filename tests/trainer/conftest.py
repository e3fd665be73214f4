"""Toy runs that the trainer's tests share: made once, through the real launcher."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from launching import Ended, Launching
from toy import make_run, training_config

from rlhf_trainer.contract import Phase

TRAINED = (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and data sets."""
    return make_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session", params=[1, 2], ids=["1-rank", "2-ranks"])
def trained(
    request: pytest.FixtureRequest, toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Launching, dict[Phase, Ended]]:
    """A workspace with Preparation, SFT and a reward model in it, by one rank and by two."""
    launching = Launching(toy_data, tmp_path_factory.mktemp("trained"), request.param)
    ended = {phase: launching.run(phase, training_config()) for phase in TRAINED}
    for phase, end in ended.items():
        assert end.code == 0, f"{phase}: {end.output[-3000:]}"
    return launching, ended
