"""Real phases, and what their tensors hold; rank 0 of each group of ranks prints it as JSON.

Ranks are forked from one process, which has imported what takes most of a toy phase's time.
Bytes are counted where the phases themselves make tensors: parameters, gradients, states of the
optimiser, what autograd saves, the cache of keys and values. Peaks are those of torch's allocator.
"""

import gc
import json
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# The profiler does not see what threads free, in which transformers loads weights otherwise.
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
os.environ["DS_ACCELERATOR"] = "cpu"

import torch
from one_start import run_case, start_once
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import DynamicCache

from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.phases import ppo
from rlhf_trainer.rollout import sampler as sampling

MARK, STAGE = "measured: ", "stage: "


def storage_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the storages behind some tensors, each once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor is not None
    }
    return sum(storages.values())


def pointers(tensors: Iterable[Tensor]) -> set[int]:
    """Where tensors lie now."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def live_tensors() -> list[Tensor]:
    """Return every tensor that Python knows of."""
    # Not isinstance: it would wake lazy modules.
    return [each for each in gc.get_objects() if issubclass(type(each), Tensor)]


class Meter:
    """What one phase has held so far, largest first."""

    def __init__(self) -> None:
        self.engines: list[TrainingEngine] = []
        self.held: dict[str, int] = {}
        for _ in range(3):  # engines are cyclic, and their finalisers let go of more
            gc.collect()
        self.before = storage_bytes(live_tensors())
        """What phases before this one, in the same process, have left."""

    def note(self, name: str, value: int) -> None:
        self.held[name] = max(self.held.get(name, 0), value)

    def name(self, engine: TrainingEngine) -> str:
        return ("policy", "critic")[self.engines.index(engine)]


meter = Meter()


def measure_engines() -> None:
    """Count gradients and states of every update."""
    start, update = TrainingEngine.__init__, TrainingEngine.update

    def measured_start(self: TrainingEngine, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        meter.engines.append(self)
        meter.note(f"{meter.name(self)}.weights", weights(self.module))
        backward = self._engine.backward

        def measured_backward(loss: Tensor) -> None:
            backward(loss)
            grads = [parameter.grad for parameter in self.module.parameters()]
            meter.note(f"{meter.name(self)}.gradients", storage_bytes(grads))

        self._engine.backward = measured_backward

    def measured_update(self: TrainingEngine, *args: Any, **kwargs: Any) -> float:
        with record_function(f"{STAGE}update of the {meter.name(self)}"):
            norm = update(self, *args, **kwargs)
        meter.note(f"{meter.name(self)}.optimizer", states(self))
        return norm

    TrainingEngine.__init__ = measured_start  # type: ignore[method-assign]
    TrainingEngine.update = measured_update  # type: ignore[method-assign]


def measure_passes() -> None:
    """Count what every pass that may learn saves: one that measures values may be kept."""
    call = TrainingEngine.__call__

    def measured_call(self: TrainingEngine, *args: object) -> Any:
        if not torch.is_grad_enabled():
            return call(self, *args)
        parameters = list(self.module.parameters())
        saved: dict[int, int] = {}  # no tensors: the graph would hold itself alive

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            # Weights are no activations; ZeRO 3 gathers them on the way.
            if storage.data_ptr() not in pointers(parameters):
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer = call(self, *args)
        meter.note(f"{meter.name(self)}.activations", sum(saved.values()))
        return answer

    TrainingEngine.__call__ = measured_call  # type: ignore[method-assign]


def weights(module: nn.Module) -> int:
    """Bytes of parameters at rest; of shards where they are sharded."""
    return storage_bytes(getattr(value, "ds_tensor", value) for value in module.parameters())


def states(engine: TrainingEngine) -> int:
    """Bytes of moments, and of float32 copies where they are no weights themselves."""
    outer = engine._engine.optimizer
    inner = getattr(outer, "optimizer", outer)
    moments = [
        value
        for state in inner.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    masters = [
        *getattr(outer, "single_partition_of_fp32_groups", ()),
        *getattr(outer, "fp32_partitioned_groups_flat", ()),
    ]
    shards = {
        getattr(value, "ds_tensor", value).untyped_storage().data_ptr()
        for value in engine.module.parameters()
    }
    own = [value for value in masters if value.untyped_storage().data_ptr() not in shards]
    return storage_bytes([*moments, *own])


def measure_caches() -> None:
    """Count keys and values after every token."""

    class MeasuredCache(DynamicCache):
        def update(self, *args: Any, **kwargs: Any) -> Any:
            both = super().update(*args, **kwargs)
            held = [tensor for layer in self.layers for tensor in (layer.keys, layer.values)]
            meter.note("kvCache", storage_bytes(held))
            return both

    sampling.DynamicCache = MeasuredCache  # type: ignore[misc]


def measure_collecting() -> None:
    """Mark rollouts in the profile, and what is measured of them."""
    sample, collect = sampling.TransformersSampler.sample, ppo.collect

    def marked_sample(self: sampling.TransformersSampler, *args: Any) -> Any:
        gc.collect()
        meter.note("between steps", storage_bytes(live_tensors()) - meter.before)
        with record_function(f"{STAGE}rollout"):
            return sample(self, *args)

    def marked_collect(*args: Any, **kwargs: Any) -> Any:
        with record_function(f"{STAGE}measuring"):
            return collect(*args, **kwargs)

    sampling.TransformersSampler.sample = marked_sample  # type: ignore[method-assign]
    ppo.collect = marked_collect


def peaks(profiler: profile) -> dict[str, int]:
    """Return the most bytes that torch's allocator held at once: in each stage, and elsewhere."""
    events = list(profiler.profiler.kineto_results.events())  # type: ignore[union-attr]
    stages = [
        (event.name().removeprefix(STAGE), event.start_ns(), event.end_ns())
        for event in events
        if event.name().startswith(STAGE)
    ]
    stages.sort(key=lambda stage: -stage[1])  # the inner one of two first
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    found: dict[str, int] = {}
    held = 0
    for moment, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        name = next((name for name, began, ended in stages if began <= moment <= ended), "loading")
        found[name] = max(found.get(name, 0), held)
    return found


def measure(rank: int, world_size: int, port: int, cases: Sequence[Sequence[str]]) -> None:
    """Run the cases as one of so many ranks."""
    global meter  # noqa: PLW0603 - a new one for each phase
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    stop, ranks = process_group.stop, start_once()
    for argv in cases:
        meter.engines.clear()  # or they would count as what was there before
        meter = Meter()
        ranks.barrier()
        if ranks.world_size > 1:
            # gloo frees on threads of its own, which the profiler does not see.
            result, found = run_case(argv, ranks), {}
        else:
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
                result = run_case(argv, ranks)
            found = {f"peak: {stage}": size for stage, size in peaks(profiler).items()}
        found |= {"outcome": result.outcome, "message": result.message, **meter.held}
        if ranks.is_main:
            sys.stdout.write(MARK + json.dumps(found) + "\n")
            sys.stdout.flush()
        ranks.barrier()
    stop()


def main(file: Path) -> None:
    measure_engines()
    measure_passes()
    measure_caches()
    measure_collecting()
    gc.freeze()  # so that ranks look for garbage, and for tensors, among their own objects
    for ranks, cases in json.loads(file.read_text(encoding="utf-8")).items():
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        start_processes(measure, (int(ranks), port, cases), int(ranks), start_method="fork")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
