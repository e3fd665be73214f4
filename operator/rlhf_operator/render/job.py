"""The PyTorchJob of an attempt.

Its pods meet Pod Security `restricted`, unless the pool asks for the node's network. Retries are
the operator's: pods never restart, and a job that failed stays failed.
"""

from typing import Any

from rlhf_operator.api import AttemptKey, PlacedPhase, Pool, RLHFRun, placed
from rlhf_operator.api.placement import PodGroup
from rlhf_operator.render.labels import attempt_labels, attempt_metadata
from rlhf_operator.render.names import job_name
from rlhf_operator.render.overlay import Json, rendered
from rlhf_operator.render.trainer import trainer_container, volumes
from rlhf_trainer.contract import METRICS_PORT, Phase

API_VERSION = "kubeflow.org/v1"
KIND = "PyTorchJob"

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"

HOSTNAME = "kubernetes.io/hostname"

USER = 65532
"""User and group of the trainer's image: nobody in particular."""

SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/path": "/metrics",
    "prometheus.io/port": str(METRICS_PORT),
}
"""Annotations of the pod that serves metrics, for a Prometheus that goes by them."""


def pytorch_job(
    run: RLHFRun, key: AttemptKey, pool: Pool, *, image: str, config_digest: str
) -> dict[str, Any]:
    """Return the job of an attempt.

    `image` is the trainer's, for runs that name none; `config_digest` tells which configuration
    the ConfigMap of the same name holds.
    """
    place = _placed(run, key)
    replicas = {"Master": _replica(run, key, pool, place, image, is_master=True)}
    if place.nodes > 1:
        worker = _replica(run, key, pool, place, image, is_master=False)
        replicas["Worker"] = {**worker, "replicas": place.nodes - 1}
    metadata = attempt_metadata(run, key, config_digest)
    policy: Json = {"cleanPodPolicy": "Running"}
    if place.queue_name is not None:
        metadata["labels"][QUEUE_LABEL] = place.queue_name
        # Kueue lets it start; the operator never touches `suspend` afterwards.
        policy["suspend"] = True
        if place.queue_priority_class_name is not None:
            metadata["labels"][QUEUE_PRIORITY_LABEL] = place.queue_priority_class_name
    if place.pod_group is not None:
        policy["schedulingPolicy"] = _scheduling(place, place.pod_group)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "spec": {
            "nprocPerNode": str(place.processes),
            "runPolicy": policy,
            "pytorchReplicaSpecs": replicas,
        },
    }


def _scheduling(place: PlacedPhase, group: PodGroup) -> Json:
    """Return what the training operator writes into the PodGroup that it makes of a job."""
    policy: Json = {"minAvailable": place.nodes}
    if group.queue is not None:
        policy["queue"] = group.queue
    if place.priority_class_name is not None:
        policy["priorityClass"] = place.priority_class_name
    if group.schedule_timeout_seconds is not None:
        policy["scheduleTimeoutSeconds"] = group.schedule_timeout_seconds
    return policy


def _placed(run: RLHFRun, key: AttemptKey) -> PlacedPhase:
    """Return where an attempt runs, with the size that its phase began with."""
    sizes = (phase.size for phase in run.status.phases if phase.key == key[:2])
    return placed(run.spec.placement, key.phase, next(sizes, None))


def _replica(
    run: RLHFRun, key: AttemptKey, pool: Pool, place: PlacedPhase, image: str, *, is_master: bool
) -> Json:
    template = run.spec.pod_template
    annotations = {**(SCRAPED if is_master else {}), **(template.annotations or {})}
    labels = {**(template.labels or {}), **attempt_labels(run, key)}
    return {
        "replicas": 1,
        "restartPolicy": "Never",
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod(run, key, pool, place, image),
        },
    }


def _pod(run: RLHFRun, key: AttemptKey, pool: Pool, place: PlacedPhase, image: str) -> Json:
    template = run.spec.pod_template
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [trainer_container(run, key, pool, place, image)],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": run.spec.run_policy.termination_grace_period_seconds,
        "volumes": [*volumes(run.claim_name, job_name(run, key)), *rendered(template.volumes)],
    }
    if selector := {**pool.node_selector, **place.node_selector}:
        pod["nodeSelector"] = selector
    if tolerations := rendered((*pool.tolerations, *place.tolerations)):
        pod["tolerations"] = tolerations
    if node := _node_to_avoid(run, key):
        pod["affinity"] = _away_from(node)
    if place.priority_class_name is not None:
        pod["priorityClassName"] = place.priority_class_name
    if secrets := rendered(template.image_pull_secrets):
        pod["imagePullSecrets"] = secrets
    if pool.host_network and key.phase is not Phase.PREPARATION:
        pod["hostNetwork"] = True
        # Without it, workers would not find their master by name.
        pod["dnsPolicy"] = "ClusterFirstWithHostNet"
    return pod


def _node_to_avoid(run: RLHFRun, key: AttemptKey) -> str | None:
    nodes = (phase.avoid_node for phase in run.status.phases if phase.key == key[:2])
    return next(nodes, None)


def _away_from(node: str) -> Json:
    """Prefer any other node: where an attempt failed, the next one may fail for the same reason."""
    elsewhere = {"key": HOSTNAME, "operator": "NotIn", "values": [node]}
    preference = {"weight": 100, "preference": {"matchExpressions": [elsewhere]}}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
