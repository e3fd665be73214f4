"""Run under torchrun: whole phases one after the other, and what their updates were made of.

Every rank leaves a file per case: of each update its sequences, micro-batches, loss and gradient.
One process group serves all cases, as starting one for each would take most of the time.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from one_start import run_case, start_once
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.models.scalar_head import ScalarHead

PAD = 0
POSITIONS: dict[type[nn.Module], int] = {Policy: 3, ScalarHead: 2}
"""Which argument of a forward pass holds the positions of a packed row."""


class Observer:
    """Watches the updates of a phase; changes nothing."""

    def __init__(self) -> None:
        self.begin()
        register_module_forward_pre_hook(self._before_forward)
        register_optimizer_step_pre_hook(self._before_step)
        self._watch_updates()
        self._watch_heads()

    def begin(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.heads: list[Tensor] = []
        self.dropout: list[Tensor] = []
        self._sequences: list[list[int]] = []
        self._gradient: list[Tensor] = []

    def seen(self) -> dict[str, Any]:
        return {"updates": self.updates, "heads": self.heads, "dropout": self.dropout}

    def _before_forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not torch.is_grad_enabled():
            return
        if (place := POSITIONS.get(type(module))) is not None:
            self._sequences += sequences(inputs[0], inputs[place])
        if isinstance(module, nn.Linear) and module.out_features == 1 and module.training:
            self.dropout.append(inputs[0].detach() == 0)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._gradient = [p.grad.detach().flatten().clone() for p in parameters]

    def _watch_updates(self) -> None:
        update, observer = TrainingEngine.update, self

        def watched(
            engine: TrainingEngine,
            micro_batches: Any,
            loss_of: Callable[[Any], Tensor],
            **kwargs: Any,
        ) -> float:
            observer._sequences, losses = [], []

            def kept(micro_batch: Any) -> Tensor:
                losses.append(loss_of(micro_batch))
                return losses[-1]

            norm = update(engine, micro_batches, kept, **kwargs)
            observer.updates.append(
                {
                    "network": type(engine.module).__name__,
                    "sequences": observer._sequences,
                    "rows": [len(part) for part in micro_batches],
                    "loss": float(torch.stack(losses).double().sum()),
                    "gradient": torch.cat(observer._gradient),
                    "norm": norm,
                }
            )
            return norm

        TrainingEngine.update = watched  # type: ignore[method-assign] # looks on, and calls it

    def _watch_heads(self) -> None:
        reset, observer = ScalarHead.reset_head, self

        def watched(network: ScalarHead, generator: torch.Generator | None) -> None:
            reset(network, generator)
            observer.heads.append(network.head.weight.detach().clone())

        ScalarHead.reset_head = watched  # type: ignore[method-assign] # looks on, and calls it


def sequences(tokens: Tensor, positions: Tensor | None) -> list[list[int]]:
    """Return the sequences of a batch without PAD, which responses may hold too."""
    rows = list(tokens)
    if positions is not None:
        starts = (positions[0] == 0).nonzero().flatten().tolist()
        rows = list(tokens[0].tensor_split(starts[1:]))
    kept = [[token for token in row.tolist() if token != PAD] for row in rows]
    return [row for row in kept if row]  # a rank without work computes a pad


def main(cases: Path, folder: Path) -> None:
    stop, ranks = process_group.stop, start_once()
    observer = Observer()
    for name, argv in json.loads(cases.read_text(encoding="utf-8")):
        observer.begin()
        result = run_case(argv, ranks)
        seen = observer.seen() | {"outcome": result.outcome.value, "message": result.message}
        torch.save(seen, folder / f"{name}-{ranks.world_size}-{ranks.rank}.pt")
    stop()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
