"""DeepSpeed engines against plain torch on one process: same gradients' norms, same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch

from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.engine.training_engine import _deepspeed_config

CASES = Path(__file__).with_name("engine_cases.py")


def run_cases(world_size: int) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={world_size}", str(CASES)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return results


@pytest.fixture(scope="module", params=[1, 2], ids=["1-rank", "2-ranks"])
def world(request: pytest.FixtureRequest) -> tuple[int, dict[str, Any]]:
    return request.param, run_cases(request.param)


def plain_torch() -> tuple[list[float], dict[str, torch.Tensor]]:
    sys.path.insert(0, str(CASES.parent))
    import engine_cases as cases  # noqa: PLC0415 - a script beside this test

    model = cases.Toy()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": cases.OPTIMIZER.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        betas=(cases.OPTIMIZER.adam_beta1, cases.OPTIMIZER.adam_beta2),
        eps=cases.OPTIMIZER.adam_epsilon,
    )
    norms = []
    for step, factor in enumerate(cases.FACTORS):
        for group in optimizer.param_groups:
            group["lr"] = cases.LEARNING_RATE * factor
        optimizer.zero_grad()
        (cases.loss_sum(model(torch.cat(cases.rows(step)))) / sum(cases.LENGTHS)).backward()
        norms.append(
            float(
                torch.nn.utils.clip_grad_norm_(
                    model.parameters(), cases.OPTIMIZER.maximum_gradient_norm
                )
            )
        )
        optimizer.step()
    return norms, model.state_dict()


@pytest.mark.parametrize("stage", ["0", "2", "3"])
def test_updates_equal_plain_torch_at_every_zero_stage(
    world: tuple[int, dict[str, Any]], stage: str
) -> None:
    norms, weights = plain_torch()
    result = world[1]["stages"][stage]
    assert result["norms"] == pytest.approx(norms, rel=1e-5)
    assert max(norms) > 0.5  # gradient clipping has something to do
    for name, expected in weights.items():
        torch.testing.assert_close(
            torch.tensor(result["weights"][name]), expected, atol=1e-6, rtol=1e-5
        )


def test_ranks_wait_for_each_other_in_every_group(world: tuple[int, dict[str, Any]]) -> None:
    day = 24 * 3600.0
    assert world[1]["shared"]["patience_seconds"] == [day, day]


def test_ranks_share_sums_flags_and_objects(world: tuple[int, dict[str, Any]]) -> None:
    size, results = world
    assert results["shared"]["sums"] == [size, sum(range(size))]
    assert results["shared"]["any"] == [True, False]
    assert results["shared"]["gathered"] == [f"rank {rank}" for rank in range(size)]


def test_work_of_the_main_rank_is_done_once_and_its_failure_is_everybodys(
    world: tuple[int, dict[str, Any]],
) -> None:
    size, results = world
    assert results["shared"]["from_main"] == ["by rank 0"] * size
    others = ["PhaseError: the main rank failed: OSError('no room')"] * (size - 1)
    assert results["shared"]["failure"] == ["OSError: no room", *others]


def test_rank_that_fails_in_an_update_says_so_and_ends_while_others_wait_for_it() -> None:
    program = CASES.with_name("failing_update.py")
    command = [*(sys.executable, "-m", "torch.distributed.run", "--standalone")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(program)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode != 0
    assert "MemoryError: no memory left on rank 1" in done.stderr


def test_flaw_in_the_share_of_one_rank_is_seen_by_all(world: tuple[int, dict[str, Any]]) -> None:
    size, results = world
    found = results["shared"]["flaws"]
    assert found == [found[0]] * size
    assert found[0].startswith(f"part-{size - 1}.pt is not what was written")


def test_overrides_of_zero_leave_the_stage_that_runs() -> None:
    overrides = {"zero_optimization": {"stage": 0, "reduce_bucket_size": 100}}
    sharding = DeepSpeedConfig(zero_stage=0, overrides=overrides)
    # Without ZeRO, bfloat16 weights would be updated themselves, so stage 2 runs.
    made = _deepspeed_config(OptimizerConfig(), sharding, torch.bfloat16, 2)
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 100}


def test_a_parameter_without_gradient_decays_whatever_the_number_of_ranks(
    world: tuple[int, dict[str, Any]],
) -> None:
    assert world[1]["shared"]["unused"] == pytest.approx(1 - 0.05 * 0.1)


def test_the_private_hook_that_avoids_a_compilation_still_exists() -> None:
    assert callable(sys.modules["deepspeed.comm.torch"].build_shm_op)
    assert deepspeed.__version__ == "0.19.8"
