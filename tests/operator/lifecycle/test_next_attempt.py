"""What makes a next attempt, and where it runs."""

from collections.abc import Callable

import pytest
from rlhf_harness.waiting import until
from runs import Run, ending

Apply = Callable[..., Run]

CHANGE = '{"spec": {"runPolicy": {"activeDeadlineSeconds": 86400}}}'


@pytest.mark.fault(
    "a job is edited by hand, then deleted",
    "reported with the name of who did it; then a new attempt, not counted",
)
def test_job_edited_by_hand_is_reported_and_one_deleted_is_made_anew(apply: Apply) -> None:
    run = apply("edited", "edited")
    run.wait("Progressing", "True", "AttemptRunning")
    (job,) = run.jobs()
    where = ("pytorchjob", job, "-n", "edited")
    run.kubernetes.kubectl("patch", *where, "--type=merge", "-p", CHANGE)
    told = run.wait("Progressing", "True", "JobEdited")
    assert f"PyTorchJob {job} was edited by kubectl-patch at 20" in told["message"]
    until(lambda: "JobEdited" in run.events(), "an Event that says so")
    run.kubernetes.kubectl("delete", *where, "--wait=false")
    until(lambda: run.phase("Preparation")["attempts"] == 2, "its second attempt")
    run.wait("Progressing", "True", "AttemptRunning")
    phase = run.phase("Preparation")
    assert (phase["failures"], phase["interruptions"]) == (0, 1)
    assert "its job was deleted" in phase["lastFailure"]
    assert run.events().count("JobEdited") == 1
    run.delete()


@pytest.mark.fault(
    "a pod fails on a node",
    "the next attempt waits, and prefers other nodes",
)
def test_retried_attempt_avoids_the_node_where_the_last_one_failed(apply: Apply) -> None:
    run = apply("avoiding", "avoiding", **ending("100ms", exit_code=1))
    until(lambda: run.phase("Preparation").get("avoidNode"), "its first failure")
    failed_on = run.phase("Preparation")["avoidNode"]
    assert run.condition("Progressing")["reason"] == "BackingOff"
    assert run.phase("Preparation")["nextAttemptTime"]
    second = "avoiding-i1-preparation-a2-master-0"
    until(lambda: second in nodes(run), "its second attempt on a node", timeout_seconds=60)
    pod = run.kubernetes.get("pod", second, "-n", "avoiding")
    (preferred,) = pod["spec"]["affinity"]["nodeAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert failed_on in str(preferred["preference"])
    assert nodes(run)[second] != failed_on
    run.delete()


def nodes(run: Run) -> dict[str, str]:
    """Return the nodes of pods that have one."""
    pods = [(pod["metadata"]["name"], pod["spec"].get("nodeName")) for pod in run.pods()]
    return {name: node for name, node in pods if node}
