"""The same PPO run by TRL and by ours, three seeds each: what `make compare-trl` runs.

It takes minutes, so `make test` does not collect it. RLHF_TEST_TRL_CURVES names the file where the
curves are left, also when they are too far apart: docs/trl.md is made from it.
"""

import json
import os
from pathlib import Path

import pytest
from launching import Launching
from peer import Peer
from same_run import Run, run_ours, run_trl, with_weaker_penalty

from trl_page import CONTROL, OURS, TRL, Side, compare

RUN = Run(steps=24)
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def sides(
    trl_with_ppo: Peer, prepared: Launching, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Side]:
    folder = tmp_path_factory.mktemp("trl")
    found = {
        TRL: run_trl(trl_with_ppo, RUN, SEEDS, prepared, folder),
        OURS: run_ours(RUN, SEEDS, prepared),
        CONTROL: run_ours(with_weaker_penalty(RUN), SEEDS, prepared),
    }
    if path := os.environ.get("RLHF_TEST_TRL_CURVES"):
        Path(path).write_text(json.dumps(found), encoding="utf-8")
    return found


def test_curves_differ_by_no_more_than_noise(sides: dict[str, Side]) -> None:
    assert [check for check in compare(sides[TRL], sides[OURS]) if not check.passes] == []


def test_another_kl_coefficient_would_have_been_told_apart(sides: dict[str, Side]) -> None:
    assert not all(check.passes for check in compare(sides[TRL], sides[CONTROL]))
