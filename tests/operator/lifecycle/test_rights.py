"""One namespace, exactly the chart's rights, each of them needed, and metrics that tell."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from operating import OperatorProcess, chart
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, ending, manifest

NAMESPACE, WITHOUT_PODS = "narrow", "narrow-quota"

JOB = "kubeflow.org/v1"


@pytest.fixture
def narrow(own_cluster: Cluster, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """An operator for two namespaces; the one for the whole cluster is away meanwhile."""
    kubernetes = own_cluster.kubernetes
    operator.stop()
    for name in (NAMESPACE, WITHOUT_PODS):
        kubernetes.namespace(name)
        kubernetes.workspace(name, operator.folder / "workspaces" / name)
    names = (NAMESPACE, WITHOUT_PODS)
    process = OperatorProcess(own_cluster, "narrow", operator.folder, namespaces=names)
    process.install()
    process.start()
    yield process
    process.kill()
    operator.start()


def granted(process: OperatorProcess) -> set[tuple[str, str, str]]:
    values = {"namespaces": list(process.namespaces)}
    manifests = chart(process.cluster, process.release, values, process.folder)
    rules = [rule for one in manifests if one["kind"] == "Role" for rule in one["rules"]]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(process: OperatorProcess, mark: int) -> set[tuple[str, str, str]]:
    requests = process.cluster.audit.since(mark, user=process.user)
    refused = [one for one in requests if one.code == 403]
    assert not refused, refused
    return {
        (one.group, "/".join(filter(None, (one.resource, one.subresource))), one.verb)
        for one in requests
    }


def test_every_right_of_the_chart_is_used_and_no_other_is_asked_for(
    narrow: OperatorProcess, own_cluster: Cluster
) -> None:
    kubernetes, mark = own_cluster.kubernetes, own_cluster.audit.mark()

    def apply(namespace: str, name: str, **spec: Any) -> Run:
        kubernetes.apply(manifest(namespace, name, **spec))
        return Run(kubernetes, namespace, name)

    no_pods = {"hard": {"pods": "0"}}
    metadata = {"name": "none", "namespace": WITHOUT_PODS}
    kubernetes.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": no_pods}
    )
    forbidden = apply(WITHOUT_PODS, "forbidden")
    kubernetes.apply(_foreign_job(own_cluster, "taken-i1-preparation-a1"))
    taken = apply(NAMESPACE, "taken")
    kubernetes.apply(_claim("claims-workspace"))  # which it reads, before it takes it up
    apply(NAMESPACE, "claims", workspace={"claimName": None})
    retries = apply(NAMESPACE, "retries", **ending("100ms", exit_code=143))
    policy = {"ttlSecondsAfterFinished": 1}
    expires = apply(NAMESPACE, "expires", runPolicy=policy, **ending("100ms"))
    taken.wait("Progressing", "False", "NameTaken")
    taken.patch(guard={"kl": {"limitNats": 9}})  # which its ConfigMap is made anew for
    until(lambda: retries.phase("Preparation").get("attempts", 0) > 1, "its second attempt")
    until(lambda: not expires.exists(), "its end", timeout_seconds=90)
    stuck = forbidden.wait("Progressing", "False", "PodForbidden", seconds=60)
    assert "quota" in stuck["message"]
    narrow.kill()
    narrow.start()  # a restart lists and watches within the mark
    until(
        lambda: used(narrow, mark) >= granted(narrow),
        lambda: f"use of {granted(narrow) - used(narrow, mark)}",
    )
    for run in (forbidden, taken, retries):
        run.delete()


def test_metrics_tell_of_runs_passes_and_retries(
    apply: Callable[..., Run], operator: OperatorProcess, own_cluster: Cluster
) -> None:
    before = counted(operator)
    run = apply("metrics", "told", **ending("100ms"))
    run.wait("Finished")
    retries = apply("metrics", "retries", **ending("100ms", exit_code=143))
    until(lambda: retries.phase("Preparation").get("attempts", 0) > 1, "its second attempt")
    silent = apply("metrics", "silent", monitoring={"scrapeIntervalSeconds": 1})
    own_cluster.kubernetes.apply(_foreign_job(own_cluster, "stuck-i1-preparation-a1", "metrics"))
    apply("metrics", "stuck").wait("Progressing", "False", "NameTaken")
    for name in ("retries_total", "scrape_failures_total", "pass_errors_total"):
        until(lambda name=name: counted(operator)[name] > before[name], f"{name} to count")
    for one in (retries, silent):
        one.delete()
    page = operator.page("/metrics")
    for line in (
        'rlhf_operator_runs{outcome="Completed",phase="Succeeded"}',
        "rlhf_operator_queue_depth 0.0",
        "rlhf_operator_pass_duration_seconds_count",
        "rlhf_operator_pass_errors_total",
        'rlhf_operator_phase_duration_seconds_count{phase_name="SFT"}',
        "rlhf_operator_scrape_failures_total",
    ):
        assert line in page, line
    assert operator.page("/healthz") == "ok\n"
    log = operator.log.read_text(encoding="utf-8")
    assert '"run": "told"' in log


def test_operator_that_cannot_reach_the_cluster_is_alive_and_not_ready(
    operator: OperatorProcess, own_cluster: Cluster
) -> None:
    operator.stop()
    apiserver = own_cluster["kube-apiserver"]
    apiserver.kill()
    try:
        operator.begin()
        until(operator.is_serving, "its endpoint")
        assert operator.answer("/healthz") == (200, "ok\n")
        assert operator.answer("/readyz") == (
            503,
            "lease rlhf-system/rlhf has not been read yet\n",
        )
    finally:
        apiserver.start()
        own_cluster.tend()
    until(
        lambda: operator.answer("/readyz")[0] == 200, "it to know the cluster", timeout_seconds=60
    )


def counted(operator: OperatorProcess) -> Counter[str]:
    """Return the operator's counters, all labels together."""
    found: Counter[str] = Counter()
    for line in operator.page("/metrics").splitlines():
        series, _, value = line.rpartition(" ")
        if series.startswith("rlhf_operator_"):
            found[series.partition("{")[0].removeprefix("rlhf_operator_")] += float(value)
    return found


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def _foreign_job(cluster: Cluster, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    container = {"name": "pytorch", "image": cluster.image}
    replica = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
    return {
        "apiVersion": JOB,
        "kind": "PyTorchJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runPolicy": {"suspend": True},
            "pytorchReplicaSpecs": {"Master": replica},
        },
    }
