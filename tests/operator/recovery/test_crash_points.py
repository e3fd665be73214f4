"""The operator dies after each single write of a whole run, and the run ends all the same."""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster, kwok
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

NAMESPACE = "recovery"

DYING = Path(__file__).parent / "dying_operator.py"
DIED = 77
MOST_POINTS = 80
"""A full run costs about half as many writes, Events included."""

STRIDE = int(os.environ.get("RLHF_TEST_CRASH_STRIDE", "10"))
"""How many writes lie between two points; `make test-crashes` tries every one."""

END_SECONDS = 90


class Disturbance:
    """Interrupts the first pod, so that its phase needs a second attempt."""

    def __init__(self, run: Run, *, wanted: bool) -> None:
        self._run, self._left = run, wanted

    def act(self) -> None:
        if not self._left:
            return
        pods = [pod for pod in self._run.pods() if pod["status"].get("phase") == "Running"]
        if not pods:
            return
        self._run.patch(**ending("200ms"))
        how = kwok.ending("100ms", exit_code=143)
        annotations = [f"{name}={value}" for name, value in how.items()]
        pod = ("pod", pods[0]["metadata"]["name"], "-n", self._run.namespace)
        self._run.kubernetes.kubectl("annotate", *pod, "--overwrite", *annotations)
        self._left = False


def run_to_its_end(
    mortal: OperatorProcess, cluster: Cluster, name: str, die_after: int, *, retry: bool
) -> tuple[Run, bool]:
    """Bring a run to its end, the operator dying once on the way; return whether it did."""
    mortal.program = (str(DYING),)
    mortal.environment = {"DIE_AFTER": str(die_after)}
    mortal.begin()
    cluster.kubernetes.apply(manifest(NAMESPACE, name, **({} if retry else ending("200ms"))))
    run = Run(cluster.kubernetes, NAMESPACE, name)
    disturbance, died = Disturbance(run, wanted=retry), False

    def ended() -> bool:
        nonlocal died
        assert mortal.process is not None
        if mortal.process.poll() is not None and not died:
            assert mortal.process.returncode == DIED, mortal.tail()
            died = True
            mortal.drop_lease()
            mortal.program, mortal.environment = ("-m", "rlhf_operator.main"), {}
            mortal.begin()
        disturbance.act()
        return run.condition("Finished").get("status") == "True"

    until(ended, lambda: f"{name}: {run.status}", timeout_seconds=END_SECONDS, every_seconds=0.1)
    until(lambda: len(run.jobs()) == 1, lambda: f"one job to be left: {run.jobs()}")
    mortal.kill()
    return run, died


def outcome(run: Run) -> dict[str, Any]:
    """Return what must be the same wherever the operator died."""
    status = run.status
    return {
        "outcome": status["outcome"],
        "phase": status["phase"],
        "phases": [
            (one["phase"], one["state"], one["attempts"], one["failures"], one.get("job"))
            for one in status["phases"]
        ],
        "conditions": [(one["type"], one["status"], one["reason"]) for one in status["conditions"]],
        "jobs": run.jobs(),
    }


@pytest.mark.parametrize("retry", [False, True], ids=["undisturbed", "with-a-retry"])
def test_run_ends_alike_wherever_the_operator_dies(
    mortal: OperatorProcess,
    own_cluster: Cluster,
    say: Callable[[str], None],
    record: Callable[..., None],
    *,
    retry: bool,
) -> None:
    kind, expected = "retry" if retry else "plain", None
    for number, point in enumerate(itertools.count(1, STRIDE), start=1):
        name, mark = f"{kind}-{point}", own_cluster.audit.mark()
        run, died = run_to_its_end(mortal, own_cluster, name, point, retry=retry)
        seen = outcome(run)
        jobs = [f"{job}".replace(name, "run") for job in seen.pop("jobs")]
        seen["phases"] = [
            (*one[:-1], (one[-1] or "").replace(name, "run")) for one in seen["phases"]
        ]
        expected = expected or (seen, jobs)
        told = [one.get("lastFailure") for one in run.status["phases"]]
        assert (seen, jobs) == expected, f"died after write {point}; failures: {told}"
        created = Counter(
            one.name or one.resource
            for one in own_cluster.audit.since(mark, user=mortal.user)
            if one.verb == "create" and one.resource == "pytorchjobs" and one.code < 300
        )
        attempts = sum(one[2] for one in seen["phases"])
        assert sum(created.values()) == attempts, created
        run.delete_unattended()
        if not died:
            say(f"{kind}: the operator died at {number - 1} points, every {STRIDE} writes")
            name = "a phase is interrupted once" if retry else "undisturbed"
            record("crashes", run=name, points=number - 1, stride=STRIDE)
            return
        assert point < MOST_POINTS, "the operator never ran out of writes"
