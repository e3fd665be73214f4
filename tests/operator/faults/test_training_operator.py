"""The training operator is away, slow to come, or refuses: the run says so, and goes on after."""

from collections.abc import Callable

from operating import OperatorProcess
from rlhf_harness import Cluster, training_operator
from rlhf_harness.waiting import until
from runs import Run

Begin = Callable[..., list[Run]]
End = Callable[..., None]
Record = Callable[..., None]

WEBHOOK = "validator.training-operator.kubeflow.org"


def test_run_goes_on_when_the_training_operator_is_restarted(
    kept: OperatorProcess, own_cluster: Cluster, begin: Begin, runs_end: End, record: Record
) -> None:
    runs = begin(["restarted"], after="1s")
    for phase in ("Preparation", "RewardModel"):
        until(lambda phase=phase: runs[0].phase(phase).get("attempts"), f"{phase} to begin")
        own_cluster["training-operator"].restart()
    runs_end(kept, runs)
    record("faults", fault="training operator killed", runs=1, counts={"times": 2})


def test_refusing_training_operator_is_told_and_waited_for(
    kept: OperatorProcess, own_cluster: Cluster, begin: Begin, runs_end: End, record: Record
) -> None:
    """Its webhook does not answer, so no job can be made."""
    own_cluster["training-operator"].kill()
    try:
        (run,) = begin(["refused"])
        told = run.wait("Progressing", "False", "InternalError")
        assert "webhook" in told["message"]
        assert not run.jobs()
    finally:
        own_cluster["training-operator"].start()
    training_operator.wait_accepting(own_cluster.kubernetes)
    runs_end(kept, [run])
    record("faults", fault="training operator refuses", runs=1, counts={"times": 1})


def test_missing_training_operator_is_told_and_waited_for(
    kept: OperatorProcess, own_cluster: Cluster, begin: Begin, runs_end: End, record: Record
) -> None:
    """Jobs can be made, and nobody takes them up."""
    kubernetes = own_cluster.kubernetes
    hook = ("validatingwebhookconfiguration", WEBHOOK)
    webhook = kubernetes.get(*hook)
    for one in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        webhook["metadata"].pop(one)
    own_cluster["training-operator"].kill()
    kubernetes.kubectl("delete", *hook)
    try:
        (run,) = begin(["missing"])
        told = run.wait("Progressing", "False", "JobNotTakenUp", seconds=60)
        assert "training operator" in told["message"]
    finally:
        kubernetes.apply(webhook)
        own_cluster["training-operator"].start()
    training_operator.wait_accepting(kubernetes)
    runs_end(kept, [run])
    record("faults", fault="training operator missing", runs=1, counts={"times": 1})
