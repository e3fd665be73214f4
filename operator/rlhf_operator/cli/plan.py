"""`rlhf plan`: where the phases of a manifest would run, and the trainer's plan of their memory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rlhf_operator.api import Pool, RLHFRun, RLHFRunSpec, placed, placement_refusal
from rlhf_operator.api.placement import LOCAL_POOL, TRAINED_PHASES
from rlhf_operator.cli.trainer import PLAN, stream
from rlhf_operator.errors import SpecError
from rlhf_operator.render import hardware_of, read_pools
from rlhf_trainer.contract import HARDWARE_FILE, Hardware

GIB = 2**30

LARGEST_GIB = 2**20
"""Most memory of a GPU, as for a pool: what is said to be infinite has no bytes to count."""

BUILT_IN_POOLS = {
    name: Pool(name=name, gpus_per_node=8, gpu_memory_bytes=size * GIB)
    for name, size in {"a100-80gb": 80, "a100-40gb": 40}.items()
}
"""Pools by the names that examples/pools.yaml has for them."""


@dataclass(frozen=True)
class Asked:
    """Options of the command."""

    pools: Path | None
    gpu_memory_gib: float | None
    as_json: bool


def plan_manifest(run: RLHFRun, file: Path, asked: Asked) -> int:
    """Print the memory plan of a manifest; return the exit code.

    Raises:
        SpecError: a phase's pool is not known, or has no such nodes.
    """
    hardware = asked_hardware(run.spec, asked)
    with TemporaryDirectory() as folder:
        config, placed = Path(folder) / "config.json", Path(folder) / HARDWARE_FILE
        config.write_text(run.spec.training().model_dump_json(by_alias=True), encoding="utf-8")
        placed.write_text(hardware.to_json(), encoding="utf-8")
        options = {"--config": config, "--hardware": placed, "--data-root": file.absolute().parent}
        words = [str(word) for option in options.items() for word in option]
        return stream(PLAN, *words, *(("--json",) if asked.as_json else ()))


def asked_hardware(spec: RLHFRunSpec, asked: Asked) -> Hardware:
    """Return where the phases would run, with the memory that pools or options name.

    Raises:
        SpecError: a phase's pool is not known, or has no such nodes; or the memory of GPUs is
            told and is none, or no phase has GPUs.
    """
    if asked.gpu_memory_gib is not None and not 0 < asked.gpu_memory_gib <= LARGEST_GIB:
        raise SpecError(
            field="--gpu-memory",
            value=f"{asked.gpu_memory_gib:g}",
            problem=f"not a number above 0, up to {LARGEST_GIB}",
            fix="write the memory of one GPU in GiB, such as 80",
        )
    pools = {LOCAL_POOL: _local(spec), **_pools(asked.pools)}
    refused = placement_refusal(spec, pools)
    if refused is not None and refused.field.endswith("pool") and asked.pools is None:
        fix = f"{refused.fix}, or declare it in a file and name that by --pools"
        raise SpecError(field=refused.field, value=refused.value, problem=refused.problem, fix=fix)
    if refused is not None:
        raise refused
    hardware = hardware_of(spec, pools)
    if asked.gpu_memory_gib is not None and not any(p.is_gpu for p in hardware.places.values()):
        raise SpecError(
            field="--gpu-memory",
            value=f"{asked.gpu_memory_gib:g}",
            problem="no phase has GPUs",
            fix="set how many, such as --set spec.placement.gpusPerNode=8",
        )
    return _with_memory(hardware, asked.gpu_memory_gib)


def _local(spec: RLHFRunSpec) -> Pool:
    """Return this machine as a pool: it has what is asked of it, as a plan needs none of it."""
    gpus = max(placed(spec.placement, phase).gpus_per_node for phase in TRAINED_PHASES)
    return Pool(name=LOCAL_POOL, gpus_per_node=gpus, maximum_nodes=1)


def _pools(file: Path | None) -> Mapping[str, Pool]:
    if file is None:
        return BUILT_IN_POOLS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(
            field="--pools", value=file, problem=f"cannot be read ({reason})", fix="check the path"
        ) from error
    return read_pools(text, str(file))


def _with_memory(hardware: Hardware, gpu_memory_gib: float | None) -> Hardware:
    """Return the places with the memory that was named, and that of this machine for its own."""
    places = {}
    for phase, place in hardware.places.items():
        memory = place.memory_bytes
        if place.is_gpu and gpu_memory_gib is not None:
            memory = round(gpu_memory_gib * GIB)
        elif not place.is_gpu and place.pool == LOCAL_POOL:
            memory = _machine_bytes() // place.processes
        places[phase] = place.model_copy(update={"memory_bytes": memory})
    return Hardware(places=places)


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
