from collections.abc import Callable
from typing import Any

from rlhf_operator.api import AttemptKey, Pool, RLHFRun
from rlhf_operator.render import attempt_config, config_digest, hardware_of
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Hardware, Phase

Build = Callable[..., RLHFRun]
KEY = AttemptKey(1, Phase.PPO, 1)
IMAGE = "rlhf-trainer:1"


def test_config_map_is_the_golden_one(
    cluster_run: Build, assert_golden: Callable[[str, dict[str, Any] | None], None]
) -> None:
    run = cluster_run("spec.guard.kl.limitNats=12", "spec.placement.pool=a100-80gb")
    assert_golden("config-map", attempt_config(run, KEY, run.spec.training(), image=IMAGE))


def test_trainer_reads_back_what_was_asked_for(cluster_run: Build) -> None:
    run = cluster_run(
        "spec.sft.from.path=sft",
        "spec.ppo.learningRate=1e-5",
        "spec.guard.kl.enforcedBy=[Operator]",
    )
    text = attempt_config(run, KEY, run.spec.training(), image=IMAGE)["data"]["config.json"]
    assert TrainingConfig.model_validate_json(text) == run.spec.training()


def test_digest_changes_with_the_guard_and_not_with_the_placement(cluster_run: Build) -> None:
    base, moved = cluster_run(), cluster_run("spec.placement.pool=other")
    guarded = cluster_run("spec.guard.kl.limitNats=12")
    digests = [config_digest(run.spec.training()) for run in (base, moved, guarded)]
    assert digests[0] == digests[1] != digests[2]


def test_preparation_is_told_where_phases_run(
    cluster_run: Build,
    pools: dict[str, Pool],
    assert_golden: Callable[[str, dict[str, Any] | None], None],
) -> None:
    run = cluster_run(
        "spec.placement={pool: a100-80gb, gpusPerNode: 8, phases: {sft: {nodes: 2}}}",
        "spec.workspace.accessMode=ReadWriteMany",
        "spec.sft.batchSize=64",
    )
    key = KEY._replace(phase=Phase.PREPARATION)
    hardware = hardware_of(run.spec, pools)
    manifest = attempt_config(run, key, run.spec.training(), image=IMAGE, hardware=hardware)
    assert_golden("config-map-preparation", manifest)
    assert Hardware.from_json(manifest["data"]["hardware.json"]) == hardware
    digests = [
        manifest["metadata"]["annotations"],
        attempt_config(run, key, run.spec.training(), image=IMAGE)["metadata"]["annotations"],
    ]
    assert digests[0] == digests[1]


def test_a_place_says_where_its_pool_is_named(cluster_run: Build, pools: dict[str, Pool]) -> None:
    run = cluster_run("spec.placement={pool: a100-40gb, phases: {ppo: {pool: a100-80gb}}}")
    places = hardware_of(run.spec, pools).places
    assert places[Phase.SFT].pool_field == "spec.placement.pool"
    assert places[Phase.PPO].pool_field == "spec.placement.phases.ppo.pool"


def test_pool_that_has_gone_leaves_its_memory_unknown(cluster_run: Build) -> None:
    run = cluster_run("spec.placement={pool: gone, gpusPerNode: 8}")
    place = hardware_of(run.spec, {}).places[Phase.PPO]
    assert (place.pool, place.memory_bytes, place.maximum_processes) == ("gone", None, None)
