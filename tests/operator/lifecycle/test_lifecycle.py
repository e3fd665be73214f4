"""Runs that pause, are deleted, take too long, cannot be placed, and live beside others."""

from collections.abc import Callable

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, said

from rlhf_trainer.contract import Outcome

Apply = Callable[..., Run]

NAMESPACE = "lifecycle"


def nothing_left(run: Run) -> bool:
    return not run.jobs() and not run.pods()


def configured(run: Run) -> list[str]:
    """Return the names of the run's ConfigMaps."""
    found = run.kubernetes.get("configmaps", "-n", run.namespace, "-l", f"rlhf.dev/run={run.name}")
    return [one["metadata"]["name"] for one in found["items"]]


def test_suspended_run_holds_no_pod_and_resumes(apply: Apply) -> None:
    run = apply(NAMESPACE, "pauses")
    until(lambda: len(run.pods()) == 1, "its pod")
    run.patch(runPolicy={"suspend": True}, **ending("200ms"))
    run.wait("Progressing", "False", "Suspended")
    until(lambda: nothing_left(run), "its pods to be gone")
    assert run.status["phase"] == "Suspended"
    run.patch(runPolicy={"suspend": False})
    run.wait("Finished", reason="Completed")
    assert run.phase("Preparation")["attempts"] == 2
    assert run.phase("Preparation")["failures"] == 0
    reasons = run.events()
    assert reasons.index("Suspended") < reasons.index("Resumed")


@pytest.mark.parametrize(
    ("name", "spec", "reached"),
    [
        ("running", {}, lambda run: len(run.pods()) == 1),
        ("unplaced", {"placement": {"pool": "absent"}}, lambda run: bool(run.status)),
        ("unscheduled", {"placement": {"pool": "nowhere"}}, lambda run: len(run.pods()) == 1),
        (
            "backing-off",
            ending("100ms", exit_code=1),
            lambda run: run.status.get("phase") == "BackingOff",
        ),
        ("finished", ending("100ms"), lambda run: run.status.get("phase") == "Succeeded"),
        ("paused", {"runPolicy": {"suspend": True}}, lambda run: bool(run.status)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deleted_run_is_gone_with_everything_of_it(
    apply: Apply, name: str, spec: dict[str, object], reached: Callable[[Run], bool]
) -> None:
    run = apply(NAMESPACE, f"del-{name}", **spec)
    until(lambda: reached(run), lambda: f"{name}: {run.status}", timeout_seconds=60)
    run.delete()
    assert not run.exists()
    until(lambda: nothing_left(run), "its children to be gone")
    until(lambda: not configured(run), lambda: f"its ConfigMaps to be gone: {configured(run)}")


def test_run_of_the_same_name_takes_no_verdict_of_the_one_before_it(apply: Apply) -> None:
    how = ending("100ms", exit_code=20, message=said(Outcome.INVALID))
    first = apply(NAMESPACE, "again", **how)
    first.wait("Finished", reason="Invalid")
    first.delete()
    second = apply(NAMESPACE, "again", **ending("200ms"))
    second.wait("Finished", reason="Completed")
    assert {phase["attempts"] for phase in second.status["phases"]} == {1}


def test_run_in_a_queue_waits_until_its_job_is_let_go(apply: Apply) -> None:
    run = apply(NAMESPACE, "queued", placement={"queueName": "research"}, **ending("200ms"))
    waits = run.wait("Progressing", "False", "Queued")
    assert "waits in queue research" in waits["message"]
    assert not run.pods()

    def let_go() -> bool:
        """Do what Kueue does, for every job that waits."""
        for name in run.jobs():
            patch = '{"spec": {"runPolicy": {"suspend": false}}}'
            job = ("pytorchjob", name, "-n", NAMESPACE)
            run.kubernetes.kubectl("patch", *job, "--type=merge", "-p", patch)
        return run.condition("Finished").get("status") == "True"

    until(let_go, "its end", timeout_seconds=60, every_seconds=0.5)
    assert run.status["phase"] == "Succeeded"


def test_pool_on_the_nodes_network_is_said_to_break_pod_security(apply: Apply) -> None:
    placement = {"pool": "rdma", "phases": {"preparation": {"pool": "played"}}}
    run = apply(NAMESPACE, "rdma", placement=placement, **ending("100ms"))
    accepted = run.wait("Accepted", "True")
    assert "pool rdma puts training pods on the node's network" in accepted["message"]
    stuck = run.wait("Progressing", "False", "PodForbidden", seconds=60)
    assert run.status["phase"] == "SFT"
    assert "hostNetwork" in stuck["message"]
    run.delete()


def test_deleted_while_the_operator_is_away_is_gone_once_it_is_back(
    apply: Apply, operator: OperatorProcess
) -> None:
    run = apply(NAMESPACE, "del-away")
    until(lambda: len(run.pods()) == 1, "its pod")
    assert operator.stop() == 0
    run.kubernetes.kubectl("delete", "rlhfrun", run.name, "-n", NAMESPACE, "--wait=false")
    operator.start()
    until(lambda: not run.exists(), "it to be gone")
    until(lambda: nothing_left(run), "its children to be gone")


def test_operator_that_is_killed_goes_on_where_it_was(
    apply: Apply, operator: OperatorProcess
) -> None:
    run = apply(NAMESPACE, "survives", **ending("3s"))
    until(lambda: run.phase("SFT").get("state") == "Running", "SFT")
    operator.kill()
    operator.start()
    run.wait("Finished", reason="Completed", seconds=90)
    assert {phase["attempts"] for phase in run.status["phases"]} == {1}


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"activeDeadlineSeconds": 3}, "DeadlineExceeded"),
        ({"phaseDeadlineSeconds": 3}, "PhaseDeadlineExceeded"),
    ],
    ids=["run", "phase"],
)
def test_run_that_takes_too_long_is_ended(
    apply: Apply, policy: dict[str, int], reason: str
) -> None:
    run = apply(NAMESPACE, f"late-{reason[:5].lower()}", runPolicy=policy)
    run.wait("Finished", reason=reason)
    until(lambda: nothing_left(run), "its pods to be gone")
    assert run.status["stop"]["by"] == "Operator"


def test_finished_run_is_deleted_when_its_time_is_over(apply: Apply) -> None:
    policy = {"ttlSecondsAfterFinished": 2}
    run = apply(NAMESPACE, "expires", runPolicy=policy, **ending("100ms"))
    until(lambda: not run.exists(), "it to be gone", timeout_seconds=60)
    until(lambda: nothing_left(run), "its children to be gone")


def test_unknown_pool_is_refused_by_name(apply: Apply) -> None:
    run = apply(NAMESPACE, "poolless", placement={"pool": "a100"})
    refused = run.wait("Accepted", "False", "CannotBePlaced")
    assert "spec.placement.pool=a100" in refused["message"]
    assert "cpu, nowhere, played, rdma, real, small" in refused["message"]
    assert run.jobs() == []


def test_pod_without_a_node_is_seen_in_a_condition(apply: Apply) -> None:
    run = apply(NAMESPACE, "homeless", placement={"pool": "nowhere"})
    stuck = run.wait("Progressing", "False", "Unschedulable")
    assert "homeless-i1-preparation-a1-master-0" in stuck["message"]
    run.delete()


def test_job_of_somebody_else_by_our_name_is_seen_in_a_condition(
    apply: Apply, own_cluster: Cluster
) -> None:
    apply(NAMESPACE, "neighbour", placement={"pool": "absent"})
    own_cluster.kubernetes.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "taken-i1-preparation-a1", "namespace": NAMESPACE},
        }
    )
    run = apply(NAMESPACE, "taken", **ending("100ms"))
    stuck = run.wait("Progressing", "False", "NameTaken")
    assert "belongs to somebody else" in stuck["message"]
    own_cluster.kubernetes.kubectl(
        "delete", "configmap", "taken-i1-preparation-a1", "-n", NAMESPACE
    )
    run.wait("Finished", reason="Completed", seconds=90)


@pytest.mark.parametrize("retention", ["Retain", "Delete"])
def test_workspace_that_was_made_stays_or_goes_by_policy(apply: Apply, retention: str) -> None:
    name = f"keeps-{retention.lower()}"
    run = apply(
        NAMESPACE,
        name,
        workspace={"claimName": None, "size": "1Gi", "retention": retention},
    )
    claim = ("get", "pvc", f"{name}-workspace", "-n", NAMESPACE, "--ignore-not-found", "-o", "name")
    until(lambda: bool(run.kubernetes.kubectl(*claim)), "its claim")
    run.delete()
    until(lambda: nothing_left(run), "its children to be gone")
    kept = retention == "Retain"
    until(lambda: bool(run.kubernetes.kubectl(*claim)) is kept, "the claim's fate")


def test_runs_live_beside_each_other(apply: Apply) -> None:
    longest = "r" + "x" * 28 + "9"
    runs = [
        apply(namespace, name, **ending("200ms"))
        for namespace in ("beside-a", "beside-b", "beside-c")
        for name in ("one", longest)
    ]
    for run in runs:
        run.wait("Finished", reason="Completed", seconds=120)


def test_init_container_that_breaks_pod_security_is_seen_in_a_condition(
    apply: Apply, own_cluster: Cluster
) -> None:
    own_cluster.restart_training_operator(restricted_init_container=False)
    try:
        run = apply(
            NAMESPACE,
            "forbidden",
            placement={"nodes": 2, "phases": {"preparation": {"pool": "played"}}},
            sft={"from": {"path": "sft"}},
            rewardModel={"from": {"path": "rm"}},
        )
        until(lambda: len(run.pods()) == 1, "its pod")
        name = run.pods()[0]["metadata"]["name"]
        run.kubernetes.kubectl(
            "annotate", "pod", name, "-n", NAMESPACE, "kwok.rlhf.dev/end-after=100ms"
        )
        stuck = run.wait("Progressing", "False", "PodForbidden", seconds=90)
        assert "--pytorch-init-container-template-file" in stuck["message"]
    finally:
        own_cluster.restart_training_operator()
    run.delete()


def test_metrics_that_cannot_be_read_are_said_and_end_nothing(
    apply: Apply, operator: OperatorProcess
) -> None:
    run = apply(NAMESPACE, "silent", monitoring={"scrapeIntervalSeconds": 1})
    until(lambda: len(run.pods()) == 1, "its pod")
    run.wait("MetricsAvailable", "Unknown", "Unreadable", seconds=90)
    assert run.condition("Progressing")["reason"] == "AttemptRunning"
    assert len(run.pods()) == 1
    told = f'rlhf_operator_metrics_unreadable{{run_name="silent",run_namespace="{NAMESPACE}"}} 1.0'
    until(lambda: told in operator.page("/metrics"), "its metric")
    run.delete()
