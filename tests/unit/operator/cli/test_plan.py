"""Where `rlhf plan` takes phases to run; the plan itself is the trainer's."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.cli.plan import Asked, asked_hardware
from rlhf_operator.errors import SpecError
from rlhf_trainer.contract import Phase, Place

GIB = 2**30
Build = Callable[..., RLHFRun]

POOLS = """\
pools:
  large: {gpusPerNode: 4, gpuMemoryBytes: 206158430208, maximumNodes: 2}
"""


def places_of(
    run: RLHFRun, pools: Path | None = None, memory: float | None = None
) -> dict[Phase, Place]:
    return asked_hardware(run.spec, Asked(pools, memory, as_json=False)).places


def test_plan_knows_the_a100s(
    build_run: Build,
) -> None:
    run = build_run(
        "spec.placement={pool: a100-40gb, nodes: 2, gpusPerNode: 8}",
        "spec.workspace.accessMode=ReadWriteMany",
        "spec.sft.batchSize=64",
    )
    places = places_of(run)
    assert set(places) == set(Phase) - {Phase.PREPARATION}
    ppo = places[Phase.PPO]
    assert (ppo.ranks, ppo.is_gpu, ppo.memory_bytes) == (16, True, 40 * GIB)


def test_plan_reads_the_charts_pools(build_run: Build, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(POOLS, encoding="utf-8")
    run = build_run("spec.placement={pool: large, gpusPerNode: 2}")
    ppo = places_of(run, file)[Phase.PPO]
    assert (ppo.memory_bytes, ppo.maximum_processes, ppo.maximum_nodes) == (192 * GIB, 4, 2)
    assert places_of(run, file, 141)[Phase.PPO].memory_bytes == 141 * GIB


def test_plan_refuses_the_memory_of_gpus_that_nobody_has(build_run: Build) -> None:
    with pytest.raises(SpecError, match="--gpu-memory=24: no phase has GPUs; set how many"):
        places_of(build_run(), memory=24)
    with_one = build_run("spec.placement.gpusPerNode=1")
    assert places_of(with_one, memory=24)[Phase.SFT].memory_bytes == 24 * GIB


@pytest.mark.parametrize("memory", [math.inf, -math.inf, math.nan, 0.0, 1e300])
def test_plan_refuses_memory_that_no_gpu_has(build_run: Build, memory: float) -> None:
    run = build_run("spec.placement.gpusPerNode=1")
    with pytest.raises(SpecError) as caught:
        places_of(run, memory=memory)
    assert str(caught.value) == (
        f"--gpu-memory={memory:g}: not a number above 0, up to 1048576; "
        "write the memory of one GPU in GiB, such as 80"
    )


def test_plan_leads_from_an_unknown_pool_to_the_option(build_run: Build) -> None:
    with pytest.raises(SpecError, match=r"use one of: a100-40gb, .* name that by --pools"):
        places_of(build_run("spec.placement={pool: h100, gpusPerNode: 8}"))


@pytest.mark.parametrize(
    ("given", "maximum"),
    [
        ("", 8),
        ("processesPerNode: 4", None),
        ("processesPerNode: 2", None),
        ("phases: {ppo: {processesPerNode: 4}}", None),
        ("processesPerNode: 2, phases: {ppo: {gpusPerNode: 4}}", 8),
        ("processesPerNode: 2, phases: {ppo: {pool: a100-40gb}}", None),
    ],
)
def test_plan_asks_for_no_more_gpus_where_processes_are_given(
    build_run: Build, given: str, maximum: int | None
) -> None:
    run = build_run(f"spec.placement={{pool: a100-80gb, gpusPerNode: 4, {given}}}")
    assert places_of(run)[Phase.PPO].maximum_processes == maximum


def test_plan_on_this_machine_counts_its_memory_per_process(
    build_run: Build,
) -> None:
    one, two = (
        places_of(build_run(f"spec.placement.processesPerNode={count}"))[Phase.SFT]
        for count in (1, 2)
    )
    assert not one.is_gpu
    assert one.memory_bytes is not None
    assert two.memory_bytes == one.memory_bytes // 2


@pytest.mark.parametrize(
    ("text", "placement", "expected"),
    [
        pytest.param(POOLS, "{pool: other}", "use one of: large, local", id="unknown-pool"),
        pytest.param(POOLS, "{pool: large, gpusPerNode: 8}", "have 4", id="too-many-gpus"),
        pytest.param("replicas: 2", "{}", "declares no pools", id="no-pools"),
        pytest.param("a: [", "{}", "not YAML", id="no-yaml"),
        pytest.param(None, "{}", "cannot be read", id="no-file"),
    ],
)
def test_plan_names_what_is_wrong_with_pools(
    build_run: Build, tmp_path: Path, text: str | None, placement: str, expected: str
) -> None:
    file = tmp_path / "pools.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    run = build_run(f"spec.placement={placement}")
    with pytest.raises(SpecError, match=expected):
        places_of(run, file)
