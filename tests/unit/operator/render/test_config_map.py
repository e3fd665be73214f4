import json
from collections.abc import Callable
from typing import Any

from rlhf_operator.api import AttemptKey, Pool, RLHFRun
from rlhf_operator.render import (
    attempt_config,
    carried_text,
    config_digest,
    config_text,
    hardware_of,
    is_readable,
)
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Hardware, Phase

Build = Callable[..., RLHFRun]
KEY = AttemptKey(1, Phase.PPO, 1)
IMAGE = "rlhf-trainer:1"


def text_of(run: RLHFRun) -> str:
    return config_text(run.spec.training())


def test_config_map_is_the_golden_one(
    cluster_run: Build, assert_golden: Callable[[str, dict[str, Any] | None], None]
) -> None:
    run = cluster_run("spec.guard.kl.limitNats=12", "spec.placement.pool=a100-80gb")
    assert_golden("config-map", attempt_config(run, KEY, text_of(run), image=IMAGE))


def test_trainer_reads_back_what_was_asked_for(cluster_run: Build) -> None:
    run = cluster_run(
        "spec.sft.from.path=sft",
        "spec.ppo.learningRate=1e-5",
        "spec.guard.kl.enforcedBy=[Operator]",
    )
    text = attempt_config(run, KEY, text_of(run), image=IMAGE)["data"]["config.json"]
    assert TrainingConfig.model_validate_json(text) == run.spec.training()


def test_digest_changes_with_the_guard_and_not_with_the_placement(cluster_run: Build) -> None:
    base, moved = cluster_run(), cluster_run("spec.placement.pool=other")
    guarded = cluster_run("spec.guard.kl.limitNats=12")
    digests = [config_digest(text_of(run)) for run in (base, moved, guarded)]
    assert digests[0] == digests[1] != digests[2]


def test_carried_text_of_an_unchanged_run_is_the_very_same(cluster_run: Build) -> None:
    run = cluster_run("spec.ppo.learningRate=1e-5", "spec.guard.length.growthFactor=2")
    assert carried_text(text_of(run), run.spec.training()) == text_of(run)


def test_carried_text_takes_todays_guard_and_no_other_field_of_today(cluster_run: Build) -> None:
    before = cluster_run("spec.ppo.learningRate=1e-5", "spec.guard.length.growthFactor=2")
    today = cluster_run(
        "spec.ppo.learningRate=1e-6",
        "spec.guard.kl.limitNats=12",
        "spec.guard.entropy.floorNatsPerToken=1",
    )
    guard = today.spec.training().guard
    assert TrainingConfig.model_validate_json(
        carried_text(text_of(before), today.spec.training())
    ) == before.spec.training().model_copy(update={"guard": guard})


def test_carried_text_has_the_fields_that_another_version_wrote(cluster_run: Build) -> None:
    run = cluster_run("spec.guard.kl.limitNats=12")
    written = json.loads(text_of(run))
    del written["seed"], written["guard"]["length"], written["guard"]["kl"]["ceilingNats"]
    written["later"] = written["guard"]["later"] = written["guard"]["kl"]["later"] = [1]
    changed = cluster_run("spec.guard.kl.limitNats=9", "spec.guard.kl.ceilingNats=20")
    written["guard"]["kl"]["limitNats"] = 9.0
    text = carried_text(json.dumps(written), changed.spec.training())
    assert json.loads(text) == written


def test_carried_text_without_a_guard_gets_none(cluster_run: Build) -> None:
    assert json.loads(carried_text('{"seed": 3}', cluster_run().spec.training())) == {"seed": 3}


def test_readable_is_what_this_version_knows(cluster_run: Build) -> None:
    text = text_of(cluster_run())
    assert is_readable(text)
    assert not is_readable(json.dumps(json.loads(text) | {"later": 1}))


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
    manifest = attempt_config(run, key, text_of(run), image=IMAGE, hardware=hardware)
    assert_golden("config-map-preparation", manifest)
    assert Hardware.from_json(manifest["data"]["hardware.json"]) == hardware
    digests = [
        manifest["metadata"]["annotations"],
        attempt_config(run, key, text_of(run), image=IMAGE)["metadata"]["annotations"],
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
