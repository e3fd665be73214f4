"""Jobs, compared with golden files, and what holds for all of them."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from rlhf_operator.api import (
    AttemptKey,
    PhaseSize,
    PhaseStatus,
    Pool,
    RLHFRun,
    RunStatus,
    placed,
)
from rlhf_operator.render import attempt_config, config_text, job_name, pytorch_job
from rlhf_operator.render.job import QUEUE_LABEL
from rlhf_trainer.contract import Phase
from rlhf_trainer.launch.arguments import Arguments

Json = dict[str, Any]
Build = Callable[..., RLHFRun]
AssertGolden = Callable[[str, Json | None], None]

A100 = ("spec.placement.pool=a100-80gb", "spec.placement.gpusPerNode=8")
TWO_NODES = ("spec.placement.nodes=2", "spec.workspace.accessMode=ReadWriteMany")
OVERLAY = (
    "spec.podTemplate.labels={team: nlp, rlhf.dev/run: forged}",
    "spec.podTemplate.annotations={sidecar.istio.io/inject: 'false'}",
    "spec.podTemplate.env=[{name: NCCL_DEBUG, value: INFO}, {name: HOME, value: /cache}]",
    "spec.podTemplate.envFrom=[{secretRef: {name: hub}}]",
    "spec.podTemplate.volumes=[{name: cache, emptyDir: {sizeLimit: 10Gi}}]",
    "spec.podTemplate.volumeMounts=[{name: cache, mountPath: /cache}]",
    "spec.podTemplate.imagePullSecrets=[{name: pull}]",
)

CASES: dict[str, tuple[Phase, tuple[str, ...]]] = {
    "preparation": (Phase.PREPARATION, (*A100, *TWO_NODES)),
    "ppo-two-nodes": (Phase.PPO, (*A100, *TWO_NODES)),
    "sft-cpu": (Phase.SFT, ("spec.placement.pool=cpu", "spec.placement.processesPerNode=2")),
    "ppo-rdma-own-placement": (
        Phase.PPO,
        (
            *A100,
            *TWO_NODES,
            (
                "spec.placement.phases.ppo={pool: a100-80gb-rdma, nodes: 4,"
                " priorityClassName: high, nodeSelector: {zone: a},"
                " tolerations: [{key: spot, operator: Exists}]}"
            ),
        ),
    ),
    "evaluation-40gb-few-processes": (
        Phase.EVALUATION,
        (
            "spec.placement.pool=a100-40gb",
            "spec.placement.gpusPerNode=8",
            "spec.placement.processesPerNode=4",
        ),
    ),
    "sft-queued": (Phase.SFT, (*A100, "spec.placement.queueName=research")),
    "sft-queued-gang": (
        Phase.SFT,
        (
            *A100,
            *TWO_NODES,
            "spec.placement.queueName=research",
            "spec.placement.queuePriorityClassName=interactive",
            "spec.placement.priorityClassName=high",
            "spec.placement.podGroup={queue: research, scheduleTimeoutSeconds: 600}",
        ),
    ),
    "sft-overlay": (
        Phase.SFT,
        (
            *A100,
            *OVERLAY,
            "spec.image=trainer:mine",
            "spec.runPolicy.terminationGracePeriodSeconds=60",
            "spec.workspace.claimName=shared",
        ),
    ),
}


def job_of(run: RLHFRun, key: AttemptKey, pools: dict[str, Pool]) -> Json:
    pool = pools[placed(run.spec.placement, key.phase).pool]
    return pytorch_job(run, key, pool, image="trainer:1", config_digest="0123456789abcdef")


@pytest.mark.parametrize("name", CASES)
def test_job_is_the_golden_one(
    cluster_run: Build, pools: dict[str, Pool], assert_golden: AssertGolden, name: str
) -> None:
    phase, overrides = CASES[name]
    assert_golden(name, job_of(cluster_run(*overrides), AttemptKey(1, phase, 2), pools))


def test_job_on_the_nodes_network_says_so(cluster_run: Build) -> None:
    pool = Pool(name="local", host_network=True)
    run = cluster_run()
    for phase, on_it in ((Phase.PREPARATION, False), (Phase.SFT, True)):
        job = job_of(run, AttemptKey(1, phase, 1), {"local": pool})
        pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        assert (pod.get("hostNetwork", False), "dnsPolicy" in pod) == (on_it, on_it)


def test_job_without_queue_is_not_suspended(cluster_run: Build, pools: dict[str, Pool]) -> None:
    job = job_of(cluster_run(*A100), AttemptKey(1, Phase.SFT, 1), pools)
    assert "suspend" not in job["spec"]["runPolicy"]
    assert QUEUE_LABEL not in job["metadata"]["labels"]


SHAPES = [
    (nodes, gpus, processes)
    for nodes, gpus, processes in itertools.product((1, 2, 3), (0, 1, 4, 8), (None, 1, 4))
    if not gpus or (processes or 0) <= gpus
]


@pytest.mark.parametrize(("nodes", "gpus", "processes"), SHAPES)
def test_nodes_times_gpus_are_asked_for(
    cluster_run: Build, nodes: int, gpus: int, processes: int | None
) -> None:
    ranks = nodes * (processes or max(gpus, 1))
    overrides = [
        f"spec.placement={{nodes: {nodes}, gpusPerNode: {gpus}}}",
        "spec.workspace.accessMode=ReadWriteMany",
        f"spec.ppo={{rolloutBatchSize: {ranks}, minibatchSize: {ranks}}}",
        f"spec.sft.batchSize={ranks}",
        f"spec.rewardModel.batchSize={ranks}",
    ]
    if processes:
        overrides.append(f"spec.placement.processesPerNode={processes}")
    run = cluster_run(*overrides)
    pool = Pool(name="local", gpus_per_node=8, gpu_resource="amd.com/gpu")
    job = job_of(run, AttemptKey(1, Phase.PPO, 1), {"local": pool})
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["replicas"] == 1
    assert replicas.get("Worker", {}).get("replicas", 0) == nodes - 1
    for replica in replicas.values():
        container = replica["template"]["spec"]["containers"][0]
        asked = container.get("resources", {}).get("limits", {}).get("amd.com/gpu", "0")
        assert int(asked) == gpus
        assert f"--processes={ranks // nodes}" in container["args"]
    assert job["spec"]["nprocPerNode"] == str(ranks // nodes)


def test_phase_that_has_begun_keeps_its_size_and_moves_to_another_pool(
    cluster_run: Build, pools: dict[str, Pool]
) -> None:
    size = PhaseSize(nodes=2, gpus_per_node=4, processes_per_node=4)
    phase = PhaseStatus(iteration=1, phase=Phase.SFT, attempts=1, size=size)
    run = cluster_run("spec.placement.pool=a100-40gb", "spec.placement.gpusPerNode=8")
    run = run.model_copy(update={"status": RunStatus(phases=(phase,))})
    spec = job_of(run, AttemptKey(1, Phase.SFT, 2), pools)["spec"]
    assert spec["nprocPerNode"] == "4"
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 1
    pod = spec["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert pod["nodeSelector"]["nvidia.com/gpu.product"].endswith("40GB")
    later = job_of(run, AttemptKey(1, Phase.PPO, 1), pools)["spec"]
    assert later["nprocPerNode"] == "8"


@pytest.mark.parametrize("phase", Phase)
def test_command_is_one_that_the_launcher_reads(
    cluster_run: Build, pools: dict[str, Pool], phase: Phase
) -> None:
    run = cluster_run("spec.placement.pool=cpu")
    job = job_of(run, AttemptKey(3, phase, 2), pools)
    container = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    read = Arguments.parse(container["args"])
    assert (read.phase, read.iteration, read.attempt) == (phase, 3, 2)
    assert (str(read.workspace), str(read.data_root)) == ("/workspace", "/data")
    assert (read.metrics_port, read.grace_seconds, read.run_name) == (8000, 300, "demo")


def test_names_at_the_limit_leave_room_for_pods_and_services(cluster_run: Build) -> None:
    run = cluster_run(f"metadata.name={'a' * 30}")
    longest = max(len(job_name(run, AttemptKey(99, phase, 999))) for phase in Phase)
    assert longest + len("-worker-999") <= 63


def test_labels_find_an_attempt_again(cluster_run: Build, pools: dict[str, Pool]) -> None:
    run, key = (
        cluster_run("spec.placement.pool=cpu", *OVERLAY),
        AttemptKey(1, Phase.REWARD_MODEL, 4),
    )
    job = job_of(run, key, pools)
    config = attempt_config(run, key, config_text(run.spec.training()), image="rlhf-trainer:1")
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    for labels in (
        job["metadata"]["labels"],
        config["metadata"]["labels"],
        pod["metadata"]["labels"],
    ):
        assert {name: labels[name] for name in labels if name.startswith("rlhf.dev/")} == {
            "rlhf.dev/run": "demo",
            "rlhf.dev/phase": "reward-model",
            "rlhf.dev/iteration": "1",
            "rlhf.dev/attempt": "4",
        }
    assert job["metadata"]["name"] == config["metadata"]["name"] == "demo-i1-reward-model-a4"


def test_next_attempt_prefers_another_node_than_the_one_that_failed(
    cluster_run: Build, pools: dict[str, Pool]
) -> None:
    run, key = cluster_run("spec.placement.pool=cpu"), AttemptKey(1, Phase.SFT, 2)
    failed = PhaseStatus(iteration=1, phase=Phase.SFT, avoid_node="node-7")
    run = run.model_copy(update={"status": RunStatus(phases=(failed,))})
    master = job_of(run, key, pools)["spec"]["pytorchReplicaSpecs"]["Master"]
    affinity = master["template"]["spec"]["affinity"]["nodeAffinity"]
    (preference,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = preference["preference"]["matchExpressions"]
    assert expression == {
        "key": "kubernetes.io/hostname",
        "operator": "NotIn",
        "values": ["node-7"],
    }
