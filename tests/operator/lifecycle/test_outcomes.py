"""What becomes of runs whose pods end in all the ways that the contract knows."""

from collections.abc import Callable

import pytest
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, said

from rlhf_trainer.contract import Outcome

Apply = Callable[..., Run]

NAMESPACE = "outcomes"


def test_run_of_completing_pods_succeeds(apply: Apply) -> None:
    run = apply(NAMESPACE, "completes", **ending("200ms"))
    assert run.wait("Finished")["reason"] == "Completed"
    assert run.condition("Succeeded")["status"] == "True"
    assert run.status["phase"] == "Succeeded"
    assert [phase["state"] for phase in run.status["phases"]] == ["Succeeded"] * 5
    until(lambda: run.jobs() == ["completes-i1-evaluation-a1"], lambda: f"its end: {run.jobs()}")
    assert run.events().count("PhaseSucceeded") == 5


@pytest.mark.parametrize(
    ("outcome", "reason", "phase"),
    [
        (Outcome.STOPPED, "KLLimitExceeded", "Stopped"),
        (Outcome.GATE_FAILED, "AgreementTooLow", "Failed"),
        (Outcome.INVALID, "", "Failed"),
        (Outcome.OUT_OF_MEMORY, "", "Failed"),
        (Outcome.DIVERGED, "", "Failed"),
    ],
    ids=lambda value: str(value).lower() or "none",
)
def test_verdict_of_the_trainer_ends_the_run(
    apply: Apply, outcome: Outcome, reason: str, phase: str
) -> None:
    how = ending("200ms", exit_code=outcome.exit_code, message=said(outcome, reason=reason))
    run = apply(NAMESPACE, f"says-{outcome.value.lower()}", **how)
    finished = run.wait("Finished")
    assert finished["reason"] == (reason or outcome.value)
    assert finished["message"].startswith("it says so; ")
    assert run.condition("Succeeded")["status"] == "False"
    assert run.status["phase"] == phase
    assert run.status["stop"]["by"] == "Trainer"
    assert run.status["stop"]["step"] == 3
    assert len(run.jobs()) == 1


def test_crash_without_retries_ends_the_run_and_tells_the_last_failure(apply: Apply) -> None:
    how = ending("200ms", exit_code=1)
    run = apply(NAMESPACE, "crashes", runPolicy={"backoffLimit": 0}, **how)
    assert run.wait("Finished")["reason"] == "RetriesExhausted"
    assert "exit code 1" in run.condition("Finished")["message"]


def test_crash_is_tried_again_after_a_pause_that_is_shown(apply: Apply) -> None:
    run = apply(NAMESPACE, "retries", **ending("200ms", exit_code=1))
    assert run.wait("Progressing", reason="BackingOff")["message"].startswith("Preparation waits")
    until(lambda: run.phase("Preparation")["attempts"] == 2, "the second attempt")
    run.delete()


def test_kernels_killer_is_named(apply: Apply) -> None:
    how = ending("200ms", exit_code=137, reason="OOMKilled")
    run = apply(NAMESPACE, "oom", runPolicy={"backoffLimit": 0}, **how)
    assert "OOMKilled" in run.wait("Finished")["message"]


def test_interruption_is_followed_at_once_and_not_counted(apply: Apply) -> None:
    run = apply(NAMESPACE, "interrupted", **ending("200ms", exit_code=143))
    until(lambda: run.phase("Preparation").get("attempts", 0) >= 3, "three attempts")
    assert run.phase("Preparation")["failures"] == 0
    run.delete()


def test_pods_that_vanish_are_a_disruption(apply: Apply, own_cluster: Cluster) -> None:
    run = apply(NAMESPACE, "vanishes")
    until(lambda: len(run.pods()) == 1, "its pod")
    gone = run.pods()[0]["metadata"]
    own_cluster.kubernetes.kubectl(
        *("delete", "pod", gone["name"], "-n", NAMESPACE), *("--force", "--grace-period=0")
    )

    def goes_on() -> bool:
        """Whether there is another attempt, or a pod that the training operator was faster with."""
        uids = {pod["metadata"]["uid"] for pod in run.pods()} - {gone["uid"]}
        return bool(uids) or run.phase("Preparation").get("attempts", 0) > 1

    until(goes_on, "another attempt or another pod")
    assert run.phase("Preparation").get("failures", 0) == 0
    run.delete()


def test_job_deleted_by_hand_is_an_uncounted_new_attempt(
    apply: Apply, own_cluster: Cluster
) -> None:
    run = apply(NAMESPACE, "jobless")
    until(lambda: len(run.pods()) == 1, "its pod")
    own_cluster.kubernetes.kubectl("delete", "pytorchjob", run.jobs()[0], "-n", NAMESPACE)
    until(lambda: run.jobs() == ["jobless-i1-preparation-a2"], lambda: f"a2: {run.jobs()}")
    assert run.phase("Preparation")["failures"] == 0
    run.delete()
