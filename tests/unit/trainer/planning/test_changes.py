"""The smallest change that makes a run fit, and the order in which changes are tried."""

from collections.abc import Callable

import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.changes import smallest_change
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import make_plan

Sizes = Callable[[str], Architecture]
Configured = Callable[..., TrainingConfig]
Placed = Callable[..., dict[Phase, Place]]

SMALL = {name: {"tokensPerMicroBatch": 512} for name in ("sft", "rewardModel", "ppo")}


@pytest.mark.parametrize(
    ("sections", "gib", "gpus", "expected"),
    [
        pytest.param({}, 80, 8, ("ppo.tokensPerMicroBatch: 1024",), id="fewer-tokens"),
        pytest.param(
            SMALL | {"deepspeed": {"zeroStage": 2}}, 80, 8, ("deepspeed.zeroStage: 3",), id="shard"
        ),
        pytest.param(SMALL, 80, 4, ("deepspeed.offloadOptimizer: true",), id="offload"),
        pytest.param(
            {"model": {"gradientCheckpointing": False}, "ppo": {"tokensPerMicroBatch": 2048}},
            60,
            8,
            ("ppo.tokensPerMicroBatch: 1024", "deepspeed.offloadOptimizer: true"),
            id="two-mild-ones-before-more-nodes",
        ),
        pytest.param(
            SMALL,
            64,
            1,
            ("placement.gpusPerNode: 8 and placement.nodes: 2",),
            id="all-gpus-of-a-node-before-more-nodes",
        ),
        pytest.param({}, 40, 8, ("model.lora: {}",), id="adapters"),
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


def test_no_change_is_named_where_none_is_enough(
    llama: Sizes, configured: Configured, placed: Placed
) -> None:
    architecture = llama("llama-2-70b")
    assert (
        smallest_change(configured(), Models(architecture, architecture), placed(nodes=8)) is None
    )
