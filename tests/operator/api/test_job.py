"""Rendered manifests before the API server, the training operator's webhook and Pod Security."""

from collections.abc import Callable
from typing import Any

import pytest
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes

from rlhf_operator.api import AttemptKey, Pool, RLHFRun
from rlhf_operator.render import attempt_config, config_text, pytorch_job, workspace_claim
from rlhf_trainer.contract import Phase

Json = dict[str, Any]

NAMESPACE = "api-rules"
"""Enforces Pod Security `restricted`."""

SPECS: dict[str, Json] = {
    "plain": {"placement": {"pool": "any"}},
    "two nodes of gpus": {
        "placement": {"pool": "any", "nodes": 2, "gpusPerNode": 8, "priorityClassName": "high"},
        "workspace": {"accessMode": "ReadWriteMany", "storageClassName": ""},
    },
    "queued, with an overlay": {
        "placement": {
            "pool": "any",
            "queueName": "research",
            "queuePriorityClassName": "interactive",
            "podGroup": {"queue": "research", "scheduleTimeoutSeconds": 600},
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "podTemplate": {
            "labels": {"team": "nlp"},
            "env": [
                {"name": "HOME", "value": "/cache"},
                {"name": "T", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            ],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings", "optional": True}}],
            "volumes": [
                {"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "key", "secret": {"secretName": "key", "optional": True}},
                {"name": "map", "configMap": {"name": "map"}},
                {"name": "more", "persistentVolumeClaim": {"claimName": "more"}},
            ],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache", "subPath": "a"}],
            "imagePullSecrets": [{"name": "pull"}],
        },
    },
}

POOL = Pool(name="any", gpus_per_node=8, extra_resources={"rdma/hca": "1", "memory": "1Gi"})


@pytest.fixture
def rendered(create: Callable[[Json], Json]) -> Callable[..., tuple[RLHFRun, Json]]:
    """Create a run, and render the job of one of its attempts."""

    def render(name: str, spec: Json, phase: Phase, pool: Pool = POOL) -> tuple[RLHFRun, Json]:
        data = {kind: {"path": kind} for kind in ("demonstrations", "comparisons", "prompts")}
        stored = create(
            {
                "apiVersion": "rlhf.dev/v1alpha1",
                "kind": "RLHFRun",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"model": {"source": "base"}, "data": data, **spec},
            }
        )
        run, key = RLHFRun.model_validate(stored), AttemptKey(1, phase, 1)
        return run, pytorch_job(run, key, pool, image="trainer:1", config_digest="a")

    return render


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", SPECS)
def test_job_is_taken_by_the_webhook_and_its_pods_by_restricted(
    api: Kubernetes, rendered: Callable[..., tuple[RLHFRun, Json]], kind: str, phase: Phase
) -> None:
    run, job = rendered(f"job-{list(SPECS).index(kind)}", SPECS[kind], phase)
    api.check(job)
    text = config_text(run.spec.training())
    config = attempt_config(run, AttemptKey(1, phase, 1), text, image="trainer:1")
    for manifest in (config, workspace_claim(run)):
        assert manifest is not None
        api.check(manifest)
    for replica in job["spec"]["pytorchReplicaSpecs"].values():
        api.check(pod_of(job, replica["template"]))


def test_pod_on_the_nodes_network_is_refused_by_restricted(
    api: Kubernetes, rendered: Callable[..., tuple[RLHFRun, Json]]
) -> None:
    pool = Pool(name="any", host_network=True)
    _, job = rendered("on-host", {"placement": {"pool": "any"}}, Phase.SFT, pool)
    api.check(job)
    template = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    with pytest.raises(CommandError, match=r"violates PodSecurity.*host namespaces"):
        api.check(pod_of(job, template))


def pod_of(job: Json, template: Json) -> Json:
    """Return a pod of a job; its priority class does not exist here."""
    spec = {name: value for name, value in template["spec"].items() if name != "priorityClassName"}
    metadata = {**template["metadata"], "name": job["metadata"]["name"], "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
