"""What jobs and pods show together: dictionaries as the API server sends them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlhf_operator.api import AttemptStatus
from rlhf_operator.cluster.attempts import AttemptSight, attempt_key, execution, is_hearsay
from rlhf_operator.cluster.pods import PodFacts, pod_facts
from rlhf_operator.decide import Ended, Execution, NotStarted, Running
from rlhf_operator.decide.outcome import TryAgain, judge
from rlhf_trainer.contract import Outcome, Phase, Result

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ATTEMPT = AttemptStatus(number=1, start_time=NOON)
TARGET = {"type": "DisruptionTarget", "status": "True"}


def job(condition: str = "Running", nodes: int = 2, **metadata: Any) -> dict[str, Any]:
    specs = {"Master": {"replicas": 1}, "Worker": {"replicas": nodes - 1}}
    return {
        "metadata": {"name": "j", "uid": "u", **metadata},
        "spec": {"pytorchReplicaSpecs": specs},
        "status": {"conditions": [{"type": condition, "status": "True"}]},
    }


def pod(
    role: str,
    code: int | None = None,
    message: str = "",
    *,
    reason: str = "Error",
    phase: str | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {}}
    if code is not None:
        state = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    ended = "Succeeded" if code == 0 else "Failed"
    return {
        "metadata": {
            "name": f"j-{role}-0",
            "labels": {"training.kubeflow.org/replica-type": role},
            **metadata,
        },
        "status": {
            "phase": phase or ("Running" if code is None else ended),
            "containerStatuses": [{"name": "pytorch", "state": state}],
            **(status or {}),
        },
    }


def said(outcome: Outcome, message: str = "so") -> str:
    return Result(phase=Phase.PPO, outcome=outcome, message=message, step=4).to_json()


def look(
    job: dict[str, Any] | None,
    *pods: dict[str, Any],
    gone: tuple[dict[str, Any], ...] = (),
    now: datetime = NOON,
    was_seen: bool = False,
) -> Execution:
    facts: list[PodFacts] = [
        *(pod_facts(one, now, gone=False) for one in pods),
        *(pod_facts(one, now, gone=True) for one in gone),
    ]
    return execution(AttemptSight(job, facts, was_seen), ATTEMPT)


def ended(execution: Execution) -> Ended:
    assert isinstance(execution, Ended), execution
    return execution


def test_execution_without_job_and_pods_has_not_started() -> None:
    assert look(None) == NotStarted()


def test_execution_whose_job_vanished_is_over_and_disrupted() -> None:
    seen = ended(look(None, was_seen=True))
    assert seen.disrupted
    assert seen.message == "its job was deleted"


def test_execution_with_a_job_known_to_the_status_is_over_once_it_is_gone() -> None:
    attempt = ATTEMPT.evolve(job_uid="u")
    assert isinstance(execution(AttemptSight(None, []), attempt), Ended)


def test_execution_with_a_pod_alive_runs_although_its_job_has_ended() -> None:
    assert isinstance(look(job("Failed"), pod("master", 1), pod("worker")), Running)
    assert isinstance(look(None, pod("worker")), Running)


def test_execution_before_any_pod_runs() -> None:
    assert isinstance(look(job("Created")), Running)


def test_execution_is_judged_by_its_pods_without_a_training_operator() -> None:
    assert ended(look(job("Running"), pod("master", 30), pod("worker", 1))).exit_code == 30


def test_execution_completes_with_its_master_whatever_its_workers_do() -> None:
    seen = look(job("Succeeded"), pod("master", 0, said(Outcome.COMPLETED)), pod("worker", 143))
    assert ended(seen).exit_code == 0
    assert ended(seen).result is not None


def test_execution_failed_worker_before_master_speaks_for_it() -> None:
    worker = pod("worker", 20, said(Outcome.INVALID, "GPU without a driver"))
    seen = ended(look(job("Failed"), worker, gone=(pod("master", 143),)))
    assert seen.exit_code == 20
    assert seen.result is not None
    assert seen.result.message == "GPU without a driver"


def test_execution_crash_of_a_worker_goes_before_the_masters_preemption() -> None:
    seen = ended(look(job("Failed"), pod("worker", 139), gone=(pod("master", 143),)))
    assert seen.exit_code == 139
    assert not seen.disrupted


def test_execution_same_verdict_from_all_is_told_by_the_master() -> None:
    told = said(Outcome.STOPPED, "master's words")
    seen = ended(look(job("Failed"), pod("worker", 10), pod("master", 10, told)))
    assert seen.result is not None
    assert seen.result.message == "master's words"


def test_execution_memory_kill_is_named_and_no_disruption() -> None:
    seen = ended(look(job("Failed", 1), pod("master", 137, reason="OOMKilled")))
    assert "OOMKilled" in seen.message
    assert not seen.disrupted


@pytest.mark.parametrize(
    "status",
    [
        {
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [{**TARGET, "reason": "TerminationByKubelet"}],
        },
        {"conditions": [{**TARGET, "reason": "PreemptionByScheduler"}]},
        {"reason": "Preempting", "message": "Preempted in order to admit critical pod"},
        {"reason": "NodeLost"},
        {"reason": "Terminated", "message": "Pod was terminated in response to imminent shutdown"},
    ],
    ids=["node-runs-short", "preempted", "critical-pod", "node-lost", "shutdown"],
)
def test_execution_disturbed_from_outside_is_disrupted(status: dict[str, Any]) -> None:
    seen = ended(look(job("Failed", 1), pod("master", 137, status=status)))
    assert seen.disrupted
    assert "ended" in seen.message


def test_execution_of_a_pod_that_a_node_under_pressure_does_not_let_in_is_disrupted() -> None:
    said = "Pod was rejected: The node had condition: [DiskPressure]. "
    status = {"reason": "Evicted", "message": said, "containerStatuses": []}
    assert ended(look(job("Failed", 1), pod("master", phase="Failed", status=status))).disrupted


def overfull(code: int | None, role: str = "master", **how: Any) -> dict[str, Any]:
    """Return a pod that was evicted because of what it wrote itself."""
    said = 'Usage of EmptyDir volume "more" exceeds the limit "1Gi". '
    status = {"reason": "Evicted", "message": said, **how.pop("status", {})}
    return pod(role, code, phase="Failed", status=status, **how)


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (overfull(137), 137),
        (overfull(137, reason="ContainerStatusUnknown"), 137),
        (overfull(143), 1),
        (overfull(143, message=said(Outcome.PREEMPTED, "SIGTERM came")), 1),
        (overfull(1, message=said(Outcome.CRASHED, "no space left")), 1),
        (overfull(None), 1),
    ],
    ids=["killed", "killed-unseen", "ended", "ended-and-told", "failed", "no-container-ended"],
)
def test_execution_that_wrote_more_than_its_limit_crashed(one: dict[str, Any], code: int) -> None:
    seen = ended(look(job("Failed", 1), one))
    assert (seen.exit_code, seen.disrupted) == (code, False)
    verdict = judge(seen, None)
    assert isinstance(verdict, TryAgain)
    assert verdict.counted
    assert verdict.message == (
        "pod j-master-0 was evicted for more local storage than its limits allow: "
        'Usage of EmptyDir volume "more" exceeds the limit "1Gi"; raise that limit'
    )


def test_execution_that_wrote_too_much_has_come_as_far_as_it_says() -> None:
    told = Result(phase=Phase.PPO, outcome=Outcome.PREEMPTED, message="so", checkpoint_step=8)
    seen = ended(look(job("Failed", 1), overfull(143, message=told.to_json())))
    assert seen.result is not None
    assert (seen.result.outcome, seen.result.checkpoint_step) == (Outcome.CRASHED, 8)


@pytest.mark.parametrize("code", [137, None])
def test_execution_of_a_worker_that_wrote_too_much_crashed_with_its_master(
    code: int | None,
) -> None:
    seen = ended(look(job("Failed"), overfull(code, "worker"), gone=(pod("master"),)))
    assert not seen.disrupted
    assert "pod j-worker-0 was evicted for more local storage" in seen.message


@pytest.mark.parametrize("code", [0, 10, 21])
def test_execution_verdict_stands_although_its_pod_wrote_too_much(code: int) -> None:
    assert ended(look(job("Failed", 1), overfull(code))).exit_code == code


def test_execution_verdict_stands_although_a_pod_was_disturbed() -> None:
    status = {"conditions": [TARGET]}
    seen = ended(look(job("Failed"), pod("master", 10), pod("worker", 143, status=status)))
    assert seen.exit_code == 10
    assert not seen.disrupted


def test_execution_pod_that_vanished_without_a_code_is_disrupted() -> None:
    seen = ended(look(job("Failed", 1), gone=(pod("master"),)))
    assert seen.exit_code is None
    assert seen.disrupted


def test_execution_crash_of_a_worker_whose_master_vanished_is_no_disruption() -> None:
    seen = ended(look(job("Failed"), pod("worker", 7), gone=(pod("master"),)))
    assert seen.exit_code == 7
    assert not seen.disrupted


def test_execution_names_the_node_of_the_pod_that_speaks_for_it() -> None:
    worker = {**pod("worker", 7), "spec": {"nodeName": "node-7"}}
    assert ended(look(job("Failed"), worker, gone=(pod("master"),))).node == "node-7"


def test_execution_names_the_pod_whose_log_stays() -> None:
    assert ended(look(job("Failed"), pod("worker", 7), gone=(pod("master"),))).pod == "j-worker-0"
    assert ended(look(None, gone=(pod("master", 7),))).pod is None
    going = job("Failed", deletionTimestamp=NOON.isoformat())
    assert ended(look(going, pod("master", 7))).pod is None


def test_execution_on_a_lost_node_is_over_although_its_job_says_nothing() -> None:
    dead = pod("master", deletionTimestamp=(NOON - timedelta(seconds=61)).isoformat())
    seen = ended(look(job("Running", 1), dead))
    assert seen.exit_code is None
    assert seen.disrupted


def test_execution_pod_of_a_lost_node_counts_as_gone_after_a_minute() -> None:
    deadline = (NOON - timedelta(seconds=59)).isoformat()
    dead = pod("master", deletionTimestamp=deadline)
    assert isinstance(look(job(), dead), Running)
    assert ended(look(None, dead, now=NOON + timedelta(seconds=2))).disrupted


def test_execution_init_container_that_fails_is_the_pods_own_fault() -> None:
    failed = {"name": "init-pytorch", "state": {"terminated": {"exitCode": 1}}}
    waiting = {"name": "pytorch", "state": {"waiting": {"reason": "PodInitializing"}}}
    status = {"initContainerStatuses": [failed], "containerStatuses": [waiting]}
    seen = ended(look(job("Failed", 1), pod("master", phase="Failed", status=status)))
    assert not seen.disrupted
    assert "init-pytorch" in seen.message


def test_execution_nonsense_as_a_message_is_no_result() -> None:
    for text in ("", "{", "[1]", '{"a": 1}', "Killed\nlast words"):
        seen = ended(look(job("Failed", 1), pod("master", 1, text)))
        assert seen.result is None
    assert seen.message == "pod j-master-0 ended with exit code 1: last words"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/5 nodes",
                    }
                ]
            },
            "Unschedulable",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "pytorch",
                        "image": "absent:1",
                        "state": {"waiting": {"reason": "ImagePullBackOff"}},
                    }
                ]
            },
            "ImagePullFailed",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "pytorch",
                        "state": {"waiting": {"reason": "CreateContainerConfigError"}},
                    }
                ]
            },
            "CreateContainerConfigError",
        ),
    ],
    ids=["unschedulable", "image", "configuration"],
)
def test_pod_that_cannot_start_says_why(status: dict[str, Any], reason: str) -> None:
    facts = pod_facts(pod("master", phase="Pending", status=status), NOON, gone=False)
    assert facts.alive
    assert facts.trouble is not None
    assert facts.trouble.reason == reason


@pytest.mark.parametrize("labels", [None, {}, {"rlhf.dev/phase": "cooking"}])
def test_attempt_key_of_foreign_labels_is_none(labels: dict[str, str] | None) -> None:
    assert attempt_key({"metadata": {"labels": labels}}) is None


def test_is_hearsay_end_that_not_every_pod_has_told_of() -> None:
    for sight in (
        AttemptSight(None, [], was_seen=True),
        AttemptSight(job("Succeeded"), []),
        AttemptSight(job("Failed"), [pod_facts(pod("worker", 1), NOON, gone=False)]),
    ):
        assert is_hearsay(sight, execution(sight, ATTEMPT)), sight


def test_is_hearsay_not_what_every_pod_has_told_and_not_life() -> None:
    told = [pod_facts(pod(name, 1), NOON, gone=False) for name in ("master", "worker")]
    for sight in (AttemptSight(job("Failed"), told), AttemptSight(job("Running"), [])):
        assert not is_hearsay(sight, execution(sight, ATTEMPT)), sight
