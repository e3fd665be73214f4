"""Checks of the half that only a cluster reads; tests/operator/api asks the API server the same."""

from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun, placed
from rlhf_operator.errors import InvalidManifestError
from rlhf_trainer.contract import Phase

CASES = {
    "no value": ("podTemplate.env=[{name: A}]", "value and valueFrom: exactly one must be set"),
    "no source": (
        "podTemplate.env=[{name: A, valueFrom: {}}]",
        "secretKeyRef and configMapKeyRef: exactly one must be set",
    ),
    "no variables": ("podTemplate.envFrom=[{}]", "secretRef and configMapRef: exactly one"),
    "volume of two kinds": (
        "podTemplate.volumes=[{name: a, emptyDir: {}, secret: {secretName: a}}]",
        "exactly one must be set; name one of them",
    ),
    "volume of ours": (
        "podTemplate.volumes=[{name: rlhf-shm, emptyDir: {}}]",
        "volumes=rlhf-shm: begins with rlhf-; choose another name",
    ),
    "path of ours": (
        "podTemplate.volumeMounts=[{name: a, mountPath: /tmp}]",
        "volumeMounts=/tmp: the operator mounts something there; choose another path",
    ),
    "mount of nothing": (
        "podTemplate.volumeMounts=[{name: a, mountPath: /a}]",
        "volumeMounts=a: no such volume here; add it to volumes",
    ),
    "variable twice": (
        "podTemplate.env=[{name: A, value: b}, {name: A, value: c}]",
        "env=A: appears twice; keep one of the two",
    ),
    "claim and size": (
        "workspace={claimName: a, size: 1Gi}",
        "size=1Gi: goes without claimName only; keep one of the two",
    ),
    "several nodes on one volume": (
        "placement.nodes=2",
        "workspace.accessMode=ReadWriteOnce: 2 nodes cannot mount it",
    ),
    "two ranks per gpu in one phase": (
        "placement={gpusPerNode: 2, phases: {sft: {processesPerNode: 4}}}",
        "placement.phases.sft.processesPerNode=4: more than gpusPerNode=2",
    ),
    "two ranks per gpu": (
        "placement={gpusPerNode: 2, processesPerNode: 4}",
        "placement.processesPerNode=4: more than gpusPerNode=2",
    ),
    "priority in no queue": (
        "placement.queuePriorityClassName=interactive",
        "placement.queuePriorityClassName=interactive: there is no queue to be first in; set queue",
    ),
    "priority of one phase in no queue": (
        "placement.phases.ppo.queuePriorityClassName=interactive",
        "placement.phases.ppo.queuePriorityClassName=interactive: there is no queue",
    ),
    "batch over the ranks of one phase": (
        "placement.phases.rewardModel={gpusPerNode: 3}",
        "rewardModel.batchSize=64: does not divide over 3 processes (1 nodes x 3)",
    ),
    "enforced twice": (
        "guard.kl.enforcedBy=[Trainer, Trainer]",
        "Trainer, Trainer: somebody is named twice; name everybody once",
    ),
    "list for a map": ("podTemplate.labels=[a]", "podTemplate.labels=[…]: not a map"),
    "misspelt field of what is no list": (
        "sft.from={path: a, patth: b}",
        "spec.sft.from.patth=b: unknown field; did you mean path?",
    ),
}


@pytest.mark.parametrize(("override", "message"), CASES.values(), ids=CASES)
def test_mistake_is_refused_with_a_fix(
    build_run: Callable[..., RLHFRun], override: str, message: str
) -> None:
    with pytest.raises(InvalidManifestError) as refused:
        build_run(f"spec.{override}")
    assert message in str(refused.value)


def test_devices_agree_with_the_placement_of_every_phase(build_run: Callable[..., RLHFRun]) -> None:
    with pytest.raises(InvalidManifestError, match=r"placement\.gpusPerNode is 0"):
        build_run("spec.model.device=CUDA", "spec.placement.phases.ppo.gpusPerNode=1")
    with pytest.raises(InvalidManifestError, match="1 GPUs per node would stand idle"):
        build_run("spec.model.device=CPU", "spec.placement.phases.ppo.gpusPerNode=1")
    build_run("spec.model.device=CUDA", "spec.placement.gpusPerNode=1")


def test_phase_with_its_own_gpus_has_a_process_for_each(build_run: Callable[..., RLHFRun]) -> None:
    run = build_run("spec.placement={processesPerNode: 2, phases: {ppo: {gpusPerNode: 4}}}")
    sizes = {phase: placed(run.spec.placement, phase).world_size for phase in Phase}
    assert sizes == {phase: 4 if phase is Phase.PPO else 2 for phase in Phase} | {
        Phase.PREPARATION: 1
    }


def test_secret_may_give_a_value(build_run: Callable[..., RLHFRun]) -> None:
    reference = "{name: hub, key: token}"
    run = build_run(f"spec.podTemplate.env=[{{name: A, valueFrom: {{secretKeyRef: {reference}}}}}]")
    env = run.spec.pod_template.env
    assert env is not None
    assert env[0].rendered() == {
        "name": "A",
        "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token", "optional": False}},
    }
