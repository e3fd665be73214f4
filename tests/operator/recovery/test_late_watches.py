"""Each kind has a watch of its own, and one may be late: nothing is concluded from its silence."""

from pathlib import Path

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from runs import Run, ending, manifest

HALF_BLIND = Path(__file__).parent / "half_blind_operator.py"


@pytest.mark.fault(
    "the watch of pods or jobs is late",
    "nothing is repeated",
)
@pytest.mark.parametrize("kind", ["pods", "pytorchjobs"])
def test_phase_that_completed_is_not_repeated_because_a_watch_is_late(
    mortal: OperatorProcess, own_cluster: Cluster, kind: str
) -> None:
    mortal.program, mortal.environment = (str(HALF_BLIND),), {"BLIND_TO": kind}
    # A list may have shown a pod alive, whose end this watch never tells: the next list does.
    mortal.options = ("--resync-seconds", "3")
    mortal.begin()
    try:
        own_cluster.kubernetes.apply(manifest("recovery", f"late-{kind}", **ending("200ms")))
        run = Run(own_cluster.kubernetes, "recovery", f"late-{kind}")
        run.wait("Finished")
        told = [one.get("lastFailure") for one in run.status["phases"]]
        assert [one["attempts"] for one in run.status["phases"]] == [1] * 5, told
        assert run.status["outcome"] == "Completed"
    finally:
        mortal.kill()
