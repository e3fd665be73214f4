"""TRL and a start that both sides share; skipped, with the reason, where TRL cannot be had."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from launching import Launching
from peer import Peer
from start import make_start, start_config

from rlhf_trainer.contract import Phase
from trl_release import NEWEST, WITH_PPO, ReleaseUnavailableError


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sft`, `reward`, and data."""
    return make_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="session")
def prepared(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    """A workspace in which PPO can begin from that start."""
    launching = Launching(start, tmp_path_factory.mktemp("same") / "run")
    end = launching.run(Phase.PREPARATION, start_config())
    assert end.code == 0, end.output[-3000:]
    return launching


@pytest.fixture(scope="session")
def trl_with_ppo(request: pytest.FixtureRequest) -> Peer:
    """The last TRL that has PPO."""
    return _installed(Peer(WITH_PPO), request.config)


@pytest.fixture(scope="session")
def newest_trl(request: pytest.FixtureRequest) -> Peer:
    """The newest TRL."""
    return _installed(Peer(NEWEST), request.config)


def _installed(peer: Peer, config: pytest.Config) -> Peer:
    try:
        peer.ensure_installed(_line(config))
    except ReleaseUnavailableError as unavailable:
        pytest.skip(str(unavailable))
    return peer


def _line(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints a line at once; the fixture `say` lives for one test only."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)  # noqa: T201 -- for people

    return line
