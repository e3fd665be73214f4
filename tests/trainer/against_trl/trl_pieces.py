"""Records TRL's PPO at work: `python trl_pieces.py TASK.json`, with TRL 1.12 on the path.

Most of TRL's PPO stands inside `PPOTrainer.train`. So the real trainer trains a toy model, and the
functions that it calls on the way keep what they are given and what they return: log-probabilities,
values and scores as they enter its formulas, advantages and losses as they leave them. Beside it,
its statistics of masked tensors are called with tensors from the task.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo_trainer
from torch import Tensor
from trl_ppo import Logged, trainer_of

RECORDED = ("get_reward", "selective_log_softmax", "masked_whiten", "masked_mean", "forward")


class Recorder:
    """Stands between the trainer and its functions; keeps calls that it makes itself."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any], Any]]] = {}
        self.orders: list[list[int]] = []
        self._depth = 0

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self.calls[name] = []

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            result = function(*args, **kwargs)
            self._depth -= 1
            if self._depth == 0:
                self.calls[name].append(_copied((args, kwargs, result)))
            return result

        return recorded

    def permutation(self, count: int) -> np.ndarray:
        order = np.random.RandomState(len(self.orders)).permutation(count)
        self.orders.append(order.tolist())
        return order


def _copied(value: Any) -> Any:
    """Return the value with tensors as they are now: the trainer changes some in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        return tuple(_copied(part) for part in value)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return value


def record(task: dict[str, Any]) -> dict[str, Any]:
    """Train for one step; return what went through it."""
    recorder, gradients = Recorder(), []
    trainer = trainer_of(task, Logged())
    trainer.optimizer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(_gradients(trainer.model))
    )
    kept = {name: getattr(trl_ppo_trainer, name) for name in RECORDED}
    permutation = np.random.permutation
    for name, function in kept.items():
        setattr(trl_ppo_trainer, name, recorder.wrap(name, function))
    np.random.permutation = recorder.permutation
    try:
        trainer.train()
    finally:
        np.random.permutation = permutation
        for name, function in kept.items():
            setattr(trl_ppo_trainer, name, function)
    return _named(recorder, trainer.args.mini_batch_size) | {"gradients": gradients[0]}


def _gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _named(recorder: Recorder, minibatch_size: int) -> dict[str, Any]:
    """Give the calls their names: the order in which `train` makes them is fixed."""
    calls = recorder.calls
    (value_args, _, value), (_, _, score) = calls["get_reward"]
    sampled, reference, *updates = calls["selective_log_softmax"]
    forwards = [call[2][1] for call in calls["forward"] if isinstance(call[2], tuple)]
    context = value_args[3]
    whitened = calls["masked_whiten"]
    rows = [
        order[start : start + minibatch_size]
        for order in recorder.orders
        for start in range(0, len(order), minibatch_size)
    ]
    means = [calls["masked_mean"][4 * index : 4 * index + 4] for index in range(len(rows))]
    return {
        "sequences": value_args[1],
        "context": context,
        "responses": sampled[0][1],
        "logp": sampled[2],
        "refLogp": reference[2],
        "values": value[0][:, context - 1 : -1, 0],
        "scores": score[1],
        "whitenedRewards": whitened[0] if len(whitened) > 1 else None,
        "advantages": whitened[-1],
        "minibatches": [
            {
                "rows": part,
                "logp": update[2],
                "values": values[:, context - 1 : -1, 0],
                "valueLoss": 0.5 * value_loss[2],
                "valueMask": value_loss[0][1],
                "policyLoss": policy_loss[2],
                "mask": policy_loss[0][1],
                "clippedShare": clipped[2],
            }
            for part, update, values, (value_loss, _, policy_loss, clipped) in zip(
                rows, updates, forwards, means, strict=True
            )
        ],
    }


def statistics(values: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return what TRL's functions say of a ragged tensor."""
    module = trl_ppo_trainer
    return {
        "mean": module.masked_mean(values, mask),
        "variance": module.masked_var(values, mask),
        "populationVariance": module.masked_var(values, mask, unbiased=False),
        "whitened": module.masked_whiten(values, mask),
        "scaled": module.masked_whiten(values, mask, shift_mean=False),
    }


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tensors = torch.load(task["tensors"], weights_only=True)
    found = {
        "statistics": [statistics(case["values"], case["mask"]) for case in tensors],
        "runs": {name: record(run) for name, run in task["runs"].items()},
    }
    torch.save(found, task["found"])


if __name__ == "__main__":
    main()
