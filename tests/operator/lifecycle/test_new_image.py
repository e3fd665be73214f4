"""An operator that is installed with another trainer image, while runs are in mid-phase."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest, said

from rlhf_trainer.contract import Outcome

NAMESPACE = "new-image"
NEW = "trainer:next"


@pytest.fixture
def upgraded(
    unattended: OperatorProcess, prepare: Callable[[str], None]
) -> Iterator[OperatorProcess]:
    """The usual operator, running, and beside it, not started yet, one with another image."""
    prepare(NAMESPACE)
    unattended.start()
    successor = unattended.beside("next", options=(f"--image={NEW}",))
    yield successor
    successor.kill()
    if unattended.process is not None:
        unattended.stop()


def failing(cluster: Cluster, name: str, **result: Any) -> Run:
    """Apply a run whose attempts crash, and return it in the pause before its second one."""
    message = said(Outcome.CRASHED, message="it broke", **result)
    how = ending("200ms", exit_code=1, message=message)
    cluster.kubernetes.apply(manifest(NAMESPACE, name, **how))
    return Run(cluster.kubernetes, NAMESPACE, name)


def images(run: Run) -> list[str]:
    """Return the trainer's image of each job, the oldest first."""
    found = run.kubernetes.get(
        "pytorchjobs", "-n", run.namespace, "-l", f"rlhf.dev/run={run.name}"
    )["items"]
    jobs = sorted(found, key=lambda job: job["metadata"]["name"])
    masters = (job["spec"]["pytorchReplicaSpecs"]["Master"]["template"] for job in jobs)
    return [master["spec"]["containers"][0]["image"] for master in masters]


def test_what_has_a_checkpoint_goes_on_with_the_image_that_wrote_it(
    own_cluster: Cluster, unattended: OperatorProcess, upgraded: OperatorProcess
) -> None:
    saved = failing(own_cluster, "saved", checkpoint_step=2)
    anew, named = failing(own_cluster, "anew"), failing(own_cluster, "named", checkpoint_step=2)
    for run in (saved, anew, named):
        until(lambda run=run: run.phase("Preparation").get("nextAttemptTime"), run.seen)
    unattended.stop()
    old = own_cluster.image
    # On a slow machine one of them may be further than the first pause.
    before = {run.name: len(run.jobs()) for run in (saved, anew, named)}
    assert {image for run in (saved, anew, named) for image in images(run)} == {old}
    named.patch(image="trainer:by-hand")

    upgraded.start()
    for run in (saved, anew, named):
        until(lambda run=run: len(run.jobs()) > before[run.name], run.seen, timeout_seconds=120)
    assert images(saved)[before["saved"]] == old
    assert images(anew)[before["anew"]] == NEW
    assert images(named)[before["named"]] == "trainer:by-hand"
    for run in (saved, anew, named):
        run.delete()
