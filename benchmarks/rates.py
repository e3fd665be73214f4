"""What this machine can do at the moment: matrix products in a model's shapes, reads and copies.

Rates are per CPU second, as the floor that is computed from them is held against CPU seconds, and
the best of a few tries: a floor takes the machine at its best.
"""

import ctypes
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from floor import Decoder, Rates

TOKENS = 512
"""Rows of the products: some micro-batches have more, which makes them no faster."""
TRIES = 3
TRY_SECONDS = 0.02
BLOCK = 2**24
"""Floats that are moved: more than caches hold."""


def measure_rates(model: Decoder) -> Rates:
    """Return the machine's rates."""
    shapes = shapes_of(model)
    forwards, trainings = product_rate(shapes, forward), product_rate(shapes, training)
    by_torch = product_rate(shapes, torch_training)
    read, copied = moving_rates()
    give_memory_back()
    return Rates(forwards, max(trainings, by_torch), read, copied, by_torch)


def moving_rates() -> tuple[float, float]:
    """Return bytes read per second, and bytes read plus written."""
    source, target = torch.ones(BLOCK), torch.empty(BLOCK)
    copied = rate(lambda: target.copy_(source), 2 * source.nbytes)
    return max(rate(source.sum, source.nbytes), copied), copied


def give_memory_back() -> None:
    """Return what is free to the system, so that it does not count as what the next step needs."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def shapes_of(model: Decoder) -> dict[tuple[int, int], int]:
    """Return the model's matrices, inputs by outputs, and how often each is there."""
    return {
        (model.hidden, 3 * model.hidden): model.layers,
        (model.hidden, model.hidden): model.layers,
        (model.hidden, 2 * model.intermediate): model.layers,
        (model.intermediate, model.hidden): model.layers,
        (model.hidden, model.vocabulary): 1,
    }


def product_rate(
    shapes: dict[tuple[int, int], int], rate_of: Callable[[Tensor, Tensor], float]
) -> float:
    """Return FLOPs per second over all matrices."""
    flops = seconds = 0.0
    for (inner, outer), count in shapes.items():
        asked = 2.0 * count * TOKENS * inner * outer
        flops += asked
        seconds += asked / rate_of(torch.randn(TOKENS, inner), torch.randn(outer, inner))
    return flops / seconds


@torch.no_grad()
def forward(inputs: Tensor, weight: Tensor) -> float:
    """Return the rate of a forward product: torch's, or with weights that oneDNN has packed."""
    asked = 2.0 * len(inputs) * weight.numel()
    output = torch.empty(len(inputs), len(weight))
    plain = rate(lambda: torch.mm(inputs, weight.t(), out=output), asked)
    if not torch.backends.mkldnn.is_available():
        return plain
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, len(inputs))  # noqa: SLF001 - nothing public packs
    return max(plain, rate(lambda: _onednn(inputs, packed), asked))


@torch.no_grad()
def training(inputs: Tensor, weight: Tensor) -> float:
    """Return the rate of the forward product and both of the backward pass, each at its fastest.

    Weights that are trained change after each pass: packing them would not pay.
    """
    asked = 2.0 * len(inputs) * weight.numel()
    seconds = (
        asked
        / max(rate(partial(product, left, right), asked) for product in (torch.mm, _by_onednn))
        for left, right in _products(inputs, weight)
    )
    return 3 * asked / sum(seconds)


@torch.no_grad()
def torch_training(inputs: Tensor, weight: Tensor) -> float:
    """Return the rate of the same three products as torch multiplies."""
    products = _products(inputs, weight)
    outputs = [torch.empty(left.shape[0], right.shape[1]) for left, right in products]

    def all_three() -> None:
        for (left, right), output in zip(products, outputs, strict=True):
            torch.mm(left, right, out=output)

    return rate(all_three, 3 * 2.0 * len(inputs) * weight.numel())


def _products(inputs: Tensor, weight: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    gradient = torch.randn(len(inputs), len(weight))
    return (inputs, weight.t()), (gradient, weight), (gradient.t(), inputs)


def _by_onednn(left: Tensor, right: Tensor) -> Tensor:
    return _onednn(left, right.t()) if torch.backends.mkldnn.is_available() else left @ right


def _onednn(inputs: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], None)  # noqa: SLF001 - torch has no other name
    return product


def rate(work: Callable[[], object], amount: float) -> float:
    """Return how much is done per CPU second, at the best of some tries after a warm-up."""
    work()
    return max(_one_rate(work, amount) for _ in range(TRIES))


def _one_rate(work: Callable[[], object], amount: float) -> float:
    done, began = 0.0, time.process_time()
    while True:
        work()
        done += amount
        took = time.process_time() - began
        if took >= TRY_SECONDS:
            return done / took
