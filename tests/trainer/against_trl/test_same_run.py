"""PPO from one start, by TRL's trainer and by ours, for a few steps.

What is allowed is what two runs of one side may differ by. `make compare-trl` compares longer runs
of three seeds: `three_seeds.py`, docs/trl.md.
"""

import math
import statistics
from pathlib import Path

from launching import Launching
from peer import Peer
from same_run import Run, run_ours, run_trl

RUN = Run(steps=5)
SEED = 0
DEVIATIONS = {"reward": 0.10, "KL": 0.06}
"""Between seeds, of the mean of a run's first 5 steps: 3 seeds by each side, pooled."""
DEVIATIONS_ALLOWED = 4.0


def test_a_short_run_moves_as_trls_does(
    trl_with_ppo: Peer, prepared: Launching, tmp_path: Path
) -> None:
    trl = run_trl(trl_with_ppo, RUN, [SEED], prepared, tmp_path)
    ours = run_ours(RUN, [SEED], prepared)
    for metric, deviation in DEVIATIONS.items():
        (theirs,), (mine,) = trl[metric], ours[metric]
        allowed = DEVIATIONS_ALLOWED * math.sqrt(2) * deviation
        assert abs(statistics.fmean(mine) - statistics.fmean(theirs)) <= allowed
        assert min(theirs[-1] - theirs[0], mine[-1] - mine[0]) > allowed / 2, "nothing was learned"
