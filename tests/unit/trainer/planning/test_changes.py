"""The smallest change that makes a run fit, and the order in which changes are tried."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from rlhf_operator.api import Pool
from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.plan import BUILT_IN_POOLS
from rlhf_operator.render import hardware_of
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.changes import least_bytes, smallest_change
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import make_plan

Sizes = Callable[[str], Architecture]
Configured = Callable[..., TrainingConfig]
Placed = Callable[..., dict[Phase, Place]]

PLANS = Path(__file__).resolve().parents[4] / "examples" / "plans"
SMALL = {name: {"tokensPerMicroBatch": 512} for name in ("sft", "rewardModel", "ppo")}


@pytest.mark.parametrize(
    ("sections", "gib", "gpus", "expected"),
    [
        pytest.param({}, 80, 8, ("spec.ppo.tokensPerMicroBatch=1024",), id="fewer-tokens"),
        pytest.param(
            SMALL | {"deepspeed": {"zeroStage": 2}},
            80,
            8,
            ("spec.deepspeed.zeroStage=3",),
            id="shard",
        ),
        pytest.param(SMALL, 80, 4, ("spec.deepspeed.offloadOptimizer=true",), id="offload"),
        pytest.param(
            {"model": {"gradientCheckpointing": False}, "ppo": {"tokensPerMicroBatch": 2048}},
            60,
            8,
            ("spec.ppo.tokensPerMicroBatch=1024", "spec.deepspeed.offloadOptimizer=true"),
            id="two-mild-ones-before-more-nodes",
        ),
        pytest.param(
            SMALL,
            64,
            1,
            (
                "spec.placement.gpusPerNode=8",
                "spec.placement.nodes=2",
            ),
            id="all-gpus-of-a-node-before-more-nodes",
        ),
        pytest.param({}, 40, 8, ("spec.model.lora={}",), id="adapters"),
    ],
)
def test_smallest_change_is_the_first_that_is_enough(
    llama: Sizes,
    configured: Configured,
    placed: Placed,
    sections: dict[str, object],
    gib: float,
    gpus: int,
    expected: tuple[str, ...],
) -> None:
    architecture = llama("llama-2-7b")
    models, places = Models(architecture, architecture), placed(gib=gib, gpus=gpus)
    config = configured(**sections)
    assert make_plan(config, models, places).refused is not None
    assert smallest_change(config, models, places) == expected


def test_changes_that_fill_the_memory_are_named_where_none_leaves_a_tenth(
    llama: Sizes, configured: Configured, placed: Placed
) -> None:
    architecture = llama("llama-2-7b")
    models, config = Models(architecture, architecture), configured(**SMALL)
    places = {
        phase: place.model_copy(update={"maximum_processes": 1, "maximum_nodes": 1})
        for phase, place in placed(gib=18.5, gpus=1).items()
    }
    assert smallest_change(config, models, places) == ("spec.model.lora={}",)


def test_all_models_that_recompute_are_named(
    llama: Sizes, configured: Configured, placed: Placed
) -> None:
    architecture = llama("llama-2-7b")
    models = Models(architecture, architecture, has_own_reward=True)
    config = configured(
        model={"gradientCheckpointing": False, "lora": {}},
        sft=SMALL["sft"],
        rewardModel=SMALL["rewardModel"] | {"model": {"source": "judge", "lora": {}}},
        ppo=SMALL["ppo"] | {"maximumResponseTokens": 2048},
        deepspeed={"zeroStage": 2},
    )
    assert smallest_change(config, models, placed(gib=48, gpus=1)) == (
        "spec.model.gradientCheckpointing=true",
        "spec.rewardModel.model.gradientCheckpointing=true",
    )


def test_more_hardware_is_not_named_where_phases_have_sizes_of_their_own(
    llama: Sizes, configured: Configured, placed: Placed
) -> None:
    architecture = llama("llama-2-7b")
    models, config = Models(architecture, architecture), configured(**SMALL)
    places = placed(gib=64, gpus=1) | {Phase.EVALUATION: placed(gib=64, gpus=2)[Phase.EVALUATION]}
    assert smallest_change(config, models, places) == ("spec.model.lora={}",)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param((), id="fewer-tokens"),
        pytest.param(("spec.placement.pool=a100-40gb",), id="adapters"),
        pytest.param(
            ("spec.placement.gpusPerNode=1", "spec.workspace.accessMode=ReadWriteMany"),
            id="hardware",
        ),
    ],
)
def test_edits_that_are_named_make_the_manifest_fit(llama: Sizes, asked: tuple[str, ...]) -> None:
    assert edits_that_fit(llama, asked, BUILT_IN_POOLS)


def edits_that_fit(
    llama: Sizes, asked: Sequence[str], pools: Mapping[str, Pool]
) -> tuple[str, ...]:
    """Return what is suggested for a manifest, and check that it is accepted and enough."""
    architecture = llama("llama-2-7b")
    models = Models(architecture, architecture)

    def planned(*overrides: str) -> tuple[TrainingConfig, dict[Phase, Place]]:
        spec = load_manifest(PLANS / "7b.yaml", [*asked, *overrides]).spec
        return spec.training(), hardware_of(spec, pools).places

    config, places = planned()
    edits = smallest_change(config, models, places)
    assert edits
    assert make_plan(config, models, places).refused is not None
    config, places = planned(*edits)
    assert make_plan(config, models, places).refused is None
    return edits


MANY = "spec.workspace.accessMode=ReadWriteMany"
PLACES = "spec.placement.phases="
SPARING = (
    *(f"spec.{name}.tokensPerMicroBatch=512" for name in SMALL),
    "spec.deepspeed.offloadOptimizer=true",
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(
            (),
            ("spec.placement.gpusPerNode=8", "spec.placement.nodes=8", MANY),
            id="claim-that-one-node-can-mount",
        ),
        pytest.param(
            ("spec.workspace.claimName=mine",),
            ("spec.placement.gpusPerNode=8", "spec.placement.nodes=8"),
            id="claim-that-exists",
        ),
        pytest.param(
            (MANY,),
            ("spec.placement.gpusPerNode=8", "spec.placement.nodes=8"),
            id="claim-that-all-nodes-can-mount",
        ),
        pytest.param(
            (PLACES + "{ppo: {gpusPerNode: 1}}",),
            (
                "spec.placement.gpusPerNode=8",
                "spec.placement.phases.ppo.gpusPerNode=8",
                "spec.placement.nodes=8",
                MANY,
            ),
            id="own-gpus",
        ),
        pytest.param(
            (PLACES + "{sft: {nodes: 1}}",),
            (
                "spec.placement.gpusPerNode=8",
                "spec.placement.phases.sft.nodes=8",
                "spec.placement.nodes=8",
                MANY,
            ),
            id="own-nodes",
        ),
        pytest.param(
            ("spec.placement.processesPerNode=1",),
            ("spec.placement.nodes=64", MANY),
            id="processes-given",
        ),
        pytest.param(
            (PLACES + "{ppo: {processesPerNode: 1}}",),
            ("spec.placement.nodes=64", MANY),
            id="own-processes",
        ),
        pytest.param(
            (PLACES + "{ppo: {gpusPerNode: 2}}",), ("spec.model.lora={}",), id="sizes-that-differ"
        ),
    ],
)
def test_hardware_is_asked_for_by_the_fields_that_hold_it(
    llama: Sizes, asked: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    pools = {"a100": Pool(name="a100", gpus_per_node=8, gpu_memory_bytes=48 * 2**30)}
    placed = ("spec.placement.pool=a100", "spec.placement.gpusPerNode=1")
    assert edits_that_fit(llama, (*SPARING, *placed, *asked), pools) == expected


def test_no_change_is_named_where_none_is_enough(
    llama: Sizes, configured: Configured, placed: Placed
) -> None:
    architecture = llama("llama-2-70b")
    models, places = Models(architecture, architecture), placed(nodes=8)
    batch = {"sft": {"batchSize": 64}}  # that 64 ranks can share, before and after a change
    assert smallest_change(configured(**batch), models, places) is None
    # With adapters a rollout still gathers the base on each GPU, and little else is there.
    least = least_bytes(configured(**batch), models, places)
    assert 2 * architecture.parameters < least < 1.1 * 2 * architecture.parameters
    lora = configured(
        model={"lora": {}},
        sft=batch["sft"] | SMALL["sft"],
        rewardModel=SMALL["rewardModel"],
        ppo=SMALL["ppo"] | {"critic": "SharedTrunk"},
    )
    assert make_plan(lora, models, placed(gib=1.01 * least / 2**30, nodes=8)).refused is None
    assert make_plan(lora, models, placed(gib=0.95 * least / 2**30, nodes=8)).refused is not None
