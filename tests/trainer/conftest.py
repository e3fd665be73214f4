"""Toy runs that the trainer's tests share, made once."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from launching import Ended, Launching
from one_start import Case, run_in_one_start
from toy import make_run, training_config

from rlhf_trainer.contract import Phase

TRAINED = (Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and data sets."""
    return make_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def trained_by(
    toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Launching, dict[Phase, Ended]]]:
    """Return a workspace with Preparation, SFT and a reward model in it, by so many ranks."""

    @cache
    def made(processes: int) -> tuple[Launching, dict[Phase, Ended]]:
        folder = tmp_path_factory.mktemp("trained")
        launching = Launching(toy_data, folder / "run", processes)
        cases = [Case(launching, phase, training_config()) for phase in TRAINED]
        ended = dict(zip(TRAINED, run_in_one_start(cases, folder), strict=True))
        for phase, end in ended.items():
            assert end.code == 0, f"{phase}: {end.output[-3000:]}"
        return launching, ended

    return made


@pytest.fixture(scope="session", params=[1, 2], ids=["1-rank", "2-ranks"])
def trained(
    request: pytest.FixtureRequest,
    trained_by: Callable[[int], tuple[Launching, dict[Phase, Ended]]],
) -> tuple[Launching, dict[Phase, Ended]]:
    """The same, by one rank and by two."""
    return trained_by(request.param)
