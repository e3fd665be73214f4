"""One trained module in a DeepSpeed engine: updates with one gradient reduction each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import deepspeed
import torch
from torch import Tensor, nn

from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.safe_loading import SafeCheckpointEngine
from rlhf_trainer.errors import PhaseError

SHARDED_PARAMETERS = 3
"""ZeRO stage from which parameters are sharded too."""

_REDUCTIONS = ("_flush_coalesced_reduction_zero12", "_flush_coalesced_reduction_zero3")
"""DeepSpeed's methods for the one reduction of an update."""

BF16_STAGE = 2
"""Lowest ZeRO stage whose optimiser keeps float32 copies of bfloat16 weights."""

M = TypeVar("M")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a largest learning rate."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float


class TrainingEngine:
    """A module, its AdamW and its gradients, sharded as configured."""

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[ParameterGroup],
        optimizer: OptimizerConfig,
        sharding: DeepSpeedConfig,
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._maximum_gradient_norm = optimizer.maximum_gradient_norm
        adamw_groups = [part for group in groups for part in _decay_groups(group, optimizer)]
        self._learning_rates = [float(part["lr"]) for part in adamw_groups]
        dtype = next(module.parameters()).dtype
        self._stage = _stage(sharding, dtype)
        self._has_frozen = not all(value.requires_grad for value in module.parameters())
        self._engine, *_ = deepspeed.initialize(
            model=module,
            config=_deepspeed_config(optimizer, sharding, dtype, self._stage),
            # torch's AdamW: DeepSpeed's own is compiled at first use, for minutes. On a CPU, which
            # is where offloaded states are stepped too, torch would go over weights and moments
            # once for each operation, unless asked not to.
            optimizer=torch.optim.AdamW(
                adamw_groups,
                betas=(optimizer.adam_beta1, optimizer.adam_beta2),
                eps=optimizer.adam_epsilon,
                fused=True if ranks.device.type == "cpu" or sharding.offload_optimizer else None,
            ),
            dist_init_required=False,
        )
        self._engine.checkpoint_engine = SafeCheckpointEngine()

    @property
    def module(self) -> nn.Module:
        """The trained module; under ZeRO 3 its parameters are shards outside `gathered`."""
        module: nn.Module = self._engine.module
        return module

    @property
    def is_sharded(self) -> bool:
        """Whether a rank holds whole parameters only while they compute (ZeRO 3)."""
        return self._stage >= SHARDED_PARAMETERS

    @property
    def largest_learning_rate(self) -> float:
        """Largest learning rate of the first parameter group."""
        return self._learning_rates[0]

    def __call__(self, *args: object) -> Any:  # noqa: ANN401 - whatever the module returns
        """Run the module's forward pass through the engine."""
        return self._engine(*args)

    def save(self, folder: Path) -> None:
        """Write this rank's part of module and optimiser; all ranks enter together."""
        self._engine.save_checkpoint(
            str(folder.parent),
            tag=folder.name,
            save_latest=False,
            exclude_frozen_parameters=self._has_frozen,
        )

    def load(self, folder: Path) -> None:
        """Read back what as many ranks have saved; all ranks enter together.

        Files are read as data: what is no tensor or plain value in them is refused.

        Raises:
            PhaseError: the folder holds no such checkpoint.
        """
        loaded, _ = self._engine.load_checkpoint(
            str(folder.parent), tag=folder.name, load_module_strict=not self._has_frozen
        )
        if loaded is None:
            raise PhaseError(f"{folder}: holds no checkpoint; remove it", reason="NoCheckpoint")

    def train(self, mode: bool = True) -> None:  # noqa: FBT001, FBT002 - as torch's
        """Switch dropout and the like on or off."""
        self._engine.train(mode)

    def close(self) -> None:
        """Let go of the module, gradients and moments: without it hooks hold them for good.

        Under ZeRO 3 DeepSpeed 0.19.8 keeps this rank's shards all the same.
        """
        self._engine.destroy()

    def update(
        self,
        micro_batches: Sequence[M],
        loss_of: Callable[[M], Tensor],
        *,
        learning_rate_factor: float,
    ) -> float:
        """Take one optimiser step over this rank's micro-batches; return the global gradient norm.

        `loss_of` returns a sum over the micro-batch divided by the denominator of the whole update,
        all ranks included. DeepSpeed averages gradients over ranks, hence the factor. Every rank
        passes the same number of micro-batches (ZeRO 3 gathers parameters in each).
        """
        for group, largest in zip(
            self._engine.optimizer.param_groups, self._learning_rates, strict=True
        ):
            group["lr"] = largest * learning_rate_factor
        with self._one_reduction():
            for index, micro_batch in enumerate(micro_batches):
                loss = loss_of(micro_batch) * self._ranks.world_size
                with self._local_gradients(is_last=index == len(micro_batches) - 1):
                    self._engine.backward(loss)
        norm = 0.0 if self._stage else self._clip_plain_gradients()
        self._engine.step()
        engine_norm = self._engine.get_global_grad_norm()
        return float(engine_norm if engine_norm is not None else norm)

    def _clip_plain_gradients(self) -> float:
        """Scale whole gradients down to the largest norm allowed; return the norm before.

        DeepSpeed without ZeRO would do it too, but keeps no norm, and writes gradients that are
        small enough.
        """
        trained = [value for value in self.module.parameters() if value.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # as where ranks reduce: AdamW must not skip it
                parameter.grad = torch.zeros_like(parameter)
        norm = torch.nn.utils.get_total_norm([v.grad for v in trained if v.grad is not None])
        if norm > self._maximum_gradient_norm:
            torch.nn.utils.clip_grads_with_norm_(trained, self._maximum_gradient_norm, norm)
        return float(norm)

    @contextmanager
    def _one_reduction(self) -> Iterator[None]:
        """Under ZeRO 2 and 3, reduce gradients once, when the block ends well."""
        if not self._stage:
            yield
            return
        with self._engine.coalesce_grad_reduction():
            try:
                yield
            except BaseException:
                # DeepSpeed reduces on the way out all the same, and would wait for ranks that are
                # in the midst of something else: the error would never be told.
                for name in _REDUCTIONS:
                    setattr(self._engine, name, lambda _: None)
                raise

    def _local_gradients(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Without ZeRO, leave the reduction to the last micro-batch, or out if nobody shares it."""
        reduced = self._stage or (is_last and self._ranks.world_size > 1)
        local: AbstractContextManager[None] = nullcontext() if reduced else self._engine.no_sync()
        return local

    @contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        """Lend the module with whole parameters, for reading; all ranks enter together."""
        parameters = list(self.module.parameters())
        if self.is_sharded:
            # What was fetched ahead, for a backward pass that a validation does not make, is still
            # on its way: such parameters would be neither gathered nor let go.
            self._engine.optimizer.empty_partition_cache()
        with deepspeed.zero.GatheredParameters(parameters, enabled=self.is_sharded):
            yield self.module


def _decay_groups(group: ParameterGroup, optimizer: OptimizerConfig) -> Iterator[dict[str, Any]]:
    """Matrices decay; vectors and biases do not (GPT-3, arXiv:2005.14165, appendix B)."""
    matrices = [parameter for parameter in group.parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in group.parameters if parameter.dim() <= 1]
    for parameters, decay in ((matrices, optimizer.weight_decay), (vectors, 0.0)):
        if parameters:
            yield {"params": parameters, "lr": group.learning_rate, "weight_decay": decay}


def _deepspeed_config(
    optimizer: OptimizerConfig, sharding: DeepSpeedConfig, dtype: torch.dtype, stage: int
) -> dict[str, Any]:
    overrides: dict[str, Any] = dict(sharding.overrides)
    # The stage that runs may be another one than was asked for, and overrides may repeat that.
    zero = _offload(sharding) | overrides.pop("zero_optimization", {}) | {"stage": stage}
    return {
        # DeepSpeed wants a number; micro-batches are ours, all within one of its steps.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimizer.maximum_gradient_norm if stage else 0.0,
        "zero_optimization": zero,
        # The optimiser is torch's, whether its states are offloaded or not.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": dtype is torch.bfloat16},
        "steps_per_print": 2**62,
    } | overrides


def _stage(sharding: DeepSpeedConfig, dtype: torch.dtype) -> int:
    """Return the ZeRO stage to run.

    Without ZeRO, DeepSpeed updates bfloat16 weights themselves, to which small updates are lost.
    """
    return (
        BF16_STAGE if dtype is torch.bfloat16 and not sharding.zero_stage else sharding.zero_stage
    )


def _offload(sharding: DeepSpeedConfig) -> dict[str, Any]:
    return {"offload_optimizer": {"device": "cpu"}} if sharding.offload_optimizer else {}
