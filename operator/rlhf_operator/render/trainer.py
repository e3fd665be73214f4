"""The trainer's container: its command, mounts, resources and rights."""

from typing import Any

from rlhf_operator.api import AttemptKey, PlacedPhase, Pool, RLHFRun
from rlhf_operator.render.overlay import Json, merged_environment, rendered
from rlhf_trainer.contract import METRICS_PORT, Phase

CONTAINER = "pytorch"
"""The training operator insists on this name."""

WORKSPACE, DATA, CONFIG, SCRATCH = "/workspace", "/data", "/etc/rlhf", "/tmp"  # noqa: S108 -- a pod's own

HUB = f"{WORKSPACE}/hub"
"""What comes from a hub is fetched once, for all phases and nodes, onto the run's volume."""

DATA_FOLDER = "data"
"""Folder of the volume that holds the users' data and models."""

METRICS_PORT_NAME = "metrics"


def trainer_container(
    run: RLHFRun, key: AttemptKey, pool: Pool, place: PlacedPhase, image: str
) -> dict[str, Any]:
    """Return the container of one node of an attempt."""
    template = run.spec.pod_template
    container: Json = {
        "name": CONTAINER,
        "image": run.spec.image or image,
        "command": ["python", "-m", "rlhf_trainer.launch"],
        "args": _arguments(run, key, place),
        "env": merged_environment(_environment(), template),
        "ports": [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # The launcher writes its verdict there; what died before it could leaves its last words.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*_mounts(run), *rendered(template.volume_mounts)],
    }
    if sources := rendered(template.env_from):
        container["envFrom"] = sources
    if resources := _resources(key, pool, place):
        container["resources"] = {"limits": resources, "requests": dict(resources)}
    return container


def volumes(claim: str, config_map: str) -> list[Json]:
    """Return the operator's own volumes of a pod."""
    return [
        {"name": "rlhf-workspace", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "rlhf-config", "configMap": {"name": config_map}},
        {"name": "rlhf-scratch", "emptyDir": {}},
        # NCCL and data loaders share memory there, and the runtime's own 64 MB are too few.
        {"name": "rlhf-shm", "emptyDir": {"medium": "Memory"}},
    ]


def _arguments(run: RLHFRun, key: AttemptKey, place: PlacedPhase) -> list[str]:
    options: dict[str, object] = {
        "config": f"{CONFIG}/config.json",
        "workspace": WORKSPACE,
        "data-root": DATA,
        "iteration": key.iteration,
        "attempt": key.attempt,
        "run-name": run.metadata.name,
        "processes": place.processes,
        "metrics-port": METRICS_PORT,
        "grace-seconds": run.spec.run_policy.termination_grace_period_seconds,
    }
    return [key.phase.slug, *(f"--{name}={value}" for name, value in options.items())]


def _environment() -> list[Json]:
    # Ranks copy the code of models into folders of their own below it, which go with the pod.
    code = {"name": "HF_MODULES_CACHE", "value": f"{SCRATCH}/modules"}
    return [{"name": "HOME", "value": SCRATCH}, {"name": "HF_HOME", "value": HUB}, code]


def _mounts(run: RLHFRun) -> list[Json]:
    """Return our mounts: a run sees its own folder of the volume, and the data."""
    volume = "rlhf-workspace"
    return [
        {"name": volume, "mountPath": WORKSPACE, "subPath": run.root_folder},
        {"name": volume, "mountPath": DATA, "subPath": DATA_FOLDER, "readOnly": True},
        {"name": "rlhf-config", "mountPath": CONFIG, "readOnly": True},
        {"name": "rlhf-scratch", "mountPath": SCRATCH},
        {"name": "rlhf-shm", "mountPath": "/dev/shm"},  # noqa: S108 -- a pod's own
    ]


def _resources(key: AttemptKey, pool: Pool, place: PlacedPhase) -> dict[str, str]:
    if key.phase is Phase.PREPARATION and pool.gpus_per_node:
        # What a pool with GPUs is to give to training is not for a pod that holds none.
        return {}
    gpus = {pool.gpu_resource: str(place.gpus_per_node)} if place.gpus_per_node else {}
    return {**pool.extra_resources, **gpus}
