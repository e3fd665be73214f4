"""Which configurations the matrix runs: cells, by name, as changes of the toy configuration."""

import os
from itertools import product
from typing import Any

ALL = os.environ.get("RLHF_TEST_MATRIX") == "all"

Cells = dict[str, dict[str, Any]]


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of all parts: sections are merged, their fields are not."""
    result: dict[str, Any] = {}
    for part in parts:
        for section, fields in part.items():
            result[section] = {**result.get(section, {}), **fields}
    return result


AS_IF_LARGE: dict[str, Any] = {
    "zero_optimization": {
        "stage3_param_persistence_threshold": 0,
        "stage3_max_live_parameters": 3000,
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 2000,
        "reduce_bucket_size": 2000,
    }
}
"""By DeepSpeed's defaults so small a model is never sharded, fetched ahead or freed."""

STAGES: Cells = {f"zero-{stage}": {"deepspeed": {"zeroStage": stage}} for stage in (0, 2)}
STAGES["zero-3"] = {"deepspeed": {"zeroStage": 3, "overrides": AS_IF_LARGE}}
TUNINGS: Cells = {"full": {}, "lora": {"model": {"lora": {"rank": 4, "alpha": 8}}}}
CRITICS: Cells = {name: {"ppo": {"critic": name}} for name in ("Separate", "SharedTrunk")}
OFFLOAD = {"deepspeed": {"offloadOptimizer": True}}
RECOMPUTATION = {"model": {"gradientCheckpointing": True}}
PADDING = {phase: {"packing": False} for phase in ("sft", "rewardModel", "ppo")}
BF16 = {"model": {"dtype": "BFloat16"}}

MATRIX: Cells = {
    "-".join(names): merged(STAGES[names[0]], TUNINGS[names[1]], CRITICS[names[2]])
    for names in product(STAGES, TUNINGS, CRITICS)
}
REFERENCES = {name: name.replace("zero-2", "zero-0").replace("zero-3", "zero-0") for name in MATRIX}
COVERING = (
    "zero-0-full-Separate",
    "zero-0-lora-SharedTrunk",
    "zero-2-full-SharedTrunk",
    "zero-2-lora-Separate",
    "zero-3-full-Separate",
    "zero-3-lora-SharedTrunk",
)
"""For two ranks: every pair of stage, tuning and critic occurs in one of them."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{cell}-{suffix}": (cell, change)
    for suffix, change, cells in (
        ("offload", OFFLOAD, ("zero-2-full-Separate", "zero-3-lora-Separate")),
        ("recomputation", RECOMPUTATION, ("zero-0-lora-Separate", "zero-3-lora-SharedTrunk")),
        ("padding", PADDING, ("zero-2-lora-Separate",)),
    )
    for cell in ([name for name in MATRIX if "zero-0" not in name] if ALL else cells)
}
LOW_PRECISION = {
    f"{cell}-bf16": cell
    for cell in (MATRIX if ALL else ("zero-0-full-Separate", "zero-3-lora-Separate"))
}


LORA = TUNINGS["lora"]["model"]["lora"]
WHOLE_REWARD_MODEL = "ROOT/zero-0-full-Separate/iteration-1/reward-model/attempt-1/model"
MIXED: Cells = {
    "lora-on-a-whole-sft-model": {"sft": {"from": {"path": "base"}}},
    "lora-with-a-whole-reward-model": {"rewardModel": {"from": {"path": WHOLE_REWARD_MODEL}}},
    "reward-model-with-adapters-of-its-own": {
        "rewardModel": {"model": {"source": "wide", "lora": LORA}}
    },
    "lora-of-two-layers": {
        "model": {"lora": {**LORA, "targetModules": ["q_proj", "mlp.down_proj"]}}
    },
    "lora-with-dropout": {
        "model": {"lora": {**LORA, "dropout": 0.5}},
        "ppo": {"minibatchSize": 16},
    },
    "evaluation-on-the-way": {"evaluation": {"everySteps": 1}},
}
"""Ways of mixing whole models and adapters; each runs without ZeRO and under ZeRO 3."""
MIXED_CELLS = {
    f"{stage}-{name}": merged(STAGES[stage], TUNINGS["lora"], changes)
    for name, changes in MIXED.items()
    for stage in ("zero-0", "zero-3")
}


JUDGED = "judged"
_TRAINED = "ROOT/zero-3-full-Separate/iteration-1"
JUDGED_CELL: dict[str, Any] = {
    "sft": {"from": {"path": f"{_TRAINED}/sft/attempt-1/model"}},
    "rewardModel": {"from": {"path": f"{_TRAINED}/reward-model/attempt-1/model"}},
    "evaluation": {"judge": {"kind": "EntryPoint", "entryPoint": "counting_judge:score"}},
}


def cells_of(ranks: int) -> Cells:
    """Return what is run by so many ranks."""
    if ranks > 1:
        cells = {name: MATRIX[name] for name in (MATRIX if ALL else COVERING)}
        return cells | {JUDGED: JUDGED_CELL}
    variants = {name: merged(MATRIX[cell], change) for name, (cell, change) in VARIANTS.items()}
    low = {name: merged(MATRIX[cell], BF16) for name, cell in LOW_PRECISION.items()}
    return MATRIX | variants | low | MIXED_CELLS
