from collections.abc import Callable

import pytest

from rlhf_operator.api import PhaseSize, Pool, RLHFRun, host_network_warning, placement_refusal
from rlhf_trainer.contract import METRICS_PORT, Phase

POOLS = {
    pool.name: pool
    for pool in (
        Pool(name="a100", gpus_per_node=8),
        Pool(name="small", gpus_per_node=4, maximum_nodes=2),
        Pool(name="cpu"),
    )
}
SHARED = "spec.workspace.accessMode=ReadWriteMany"

CASES = {
    "fits": (("spec.placement={pool: a100, gpusPerNode: 8}",), None),
    "cpu": (("spec.placement.pool=cpu",), None),
    "cpu on purpose": (("spec.placement.pool=a100", "spec.model.device=CPU"), None),
    "preparation elsewhere": (
        ("spec.placement={pool: a100, gpusPerNode: 8, phases: {preparation: {pool: cpu}}}",),
        None,
    ),
    "unknown": (
        ("spec.placement.pool=a10",),
        "spec.placement.pool=a10: no such pool here; use one of: a100, cpu, small",
    ),
    "unknown in one phase": (
        ("spec.placement={pool: cpu, phases: {evaluation: {pool: a10}}}",),
        (
            "spec.placement.phases.evaluation.pool=a10: no such pool here; "
            "use one of: a100, cpu, small"
        ),
    ),
    "too many nodes": (
        ("spec.placement={pool: small, nodes: 4, gpusPerNode: 4}", SHARED),
        "spec.placement.nodes=4: pool small has 2; use at most 2, or another pool",
    ),
    "too many gpus in one phase": (
        ("spec.placement={pool: a100, gpusPerNode: 8, phases: {sft: {pool: small}}}",),
        "spec.placement.gpusPerNode=8: nodes of pool small have 4; use at most 4, or another pool",
    ),
    "idle gpus": (
        ("spec.placement.pool=a100",),
        (
            "spec.placement.gpusPerNode=0: SFT would train on the CPUs of pool a100, which has "
            "GPUs; use up to 8, another pool, or model.device: CPU"
        ),
    ),
}


@pytest.mark.parametrize(("overrides", "message"), CASES.values(), ids=CASES)
def test_refusal_names_field_value_and_fix(
    build_run: Callable[..., RLHFRun], overrides: tuple[str, ...], message: str | None
) -> None:
    refused = placement_refusal(build_run(*overrides).spec, POOLS)
    assert (str(refused) if refused else None) == message


SIZE = PhaseSize(nodes=2, gpus_per_node=4, processes_per_node=4)

BEGUN = {
    "grown since": (("spec.placement={pool: small, nodes: 4, gpusPerNode: 8}", SHARED), SIZE, None),
    "fewer nodes since": (
        ("spec.placement={pool: small}",),
        SIZE.evolve(nodes=3),
        "spec.placement.pool=small: has 2 nodes, and SFT began with 3; use another pool",
    ),
    "fewer gpus since": (
        ("spec.placement={pool: a100, gpusPerNode: 8, phases: {sft: {pool: small}}}",),
        SIZE.evolve(gpus_per_node=8),
        (
            "spec.placement.phases.sft.pool=small: its nodes have 4 GPUs, and SFT began with 8; "
            "use another pool"
        ),
    ),
    "idle gpus": (("spec.placement={pool: a100}",), SIZE.evolve(gpus_per_node=0), None),
    "unknown": (
        ("spec.placement={pool: a10}",),
        SIZE,
        "spec.placement.pool=a10: no such pool here; use one of: a100, cpu, small",
    ),
}


@pytest.mark.parametrize(("overrides", "size", "message"), BEGUN.values(), ids=BEGUN)
def test_phase_that_has_begun_is_held_against_the_size_it_has(
    build_run: Callable[..., RLHFRun],
    overrides: tuple[str, ...],
    size: PhaseSize,
    message: str | None,
) -> None:
    refused = placement_refusal(build_run(*overrides).spec, POOLS, {Phase.SFT: size})
    assert (str(refused) if refused else None) == message


def test_no_pools_are_said_to_be_none(build_run: Callable[..., RLHFRun]) -> None:
    refused = placement_refusal(build_run().spec, {})
    assert str(refused) == "spec.placement.pool=local: no such pool here; use one of: none"


def test_host_network_says_which_port_of_the_node_must_be_free() -> None:
    assert f"ports {METRICS_PORT} (metrics)" in str(Pool.model_fields["host_network"].description)


def test_host_network_is_told_with_what_it_means(build_run: Callable[..., RLHFRun]) -> None:
    pools = {**POOLS, "rdma": Pool(name="rdma", host_network=True)}
    spec = build_run("spec.placement.phases={ppo: {pool: rdma}}", "spec.placement.pool=cpu").spec
    told = host_network_warning(spec, pools)
    assert told is not None
    assert told.startswith("pool rdma puts training pods on the node's network")
    assert "`restricted` and `baseline` refuse: the namespace must enforce `privileged`" in told
    assert host_network_warning(build_run("spec.placement.pool=cpu").spec, pools) is None
