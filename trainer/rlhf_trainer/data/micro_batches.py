"""Micro-batches of sequences of uneven length, under a budget of tokens that are computed.

Results of training do not depend on them (losses are normalised by global token counts); memory and
speed do. Which rows a rank works on is decided elsewhere.
"""

from collections.abc import Sequence


def token_budget_micro_batches(
    lengths: Sequence[int], budget_tokens: int, *, packing: bool = False
) -> list[list[int]]:
    """Return batches of indices into `lengths` (in tokens), longest sequences first.

    What a batch costs stays within `budget_tokens`: its rows times its longest, as they are padded;
    with packing, its sum. A sequence that is longer by itself stands alone. Sequences of one length
    keep their order: equal lengths give equal batches everywhere. Without packing the first batch
    needs the most memory, so what does not fit fails at once.
    """
    batches: list[list[int]] = []
    cost = 0
    for index in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        added = lengths[index] if packing or not batches else lengths[batches[-1][0]]
        if batches and cost + added <= budget_tokens:
            batches[-1].append(index)
            cost += added
        else:
            batches.append([index])
            cost = lengths[index]
    return batches


def equalise(batches: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Return `batches`, then as many empty ones as make `count`.

    Under ZeRO-3 every forward pass gathers parameters from all ranks, so all must take equally
    many.
    """
    if len(batches) > count:
        message = f"count={count}: fewer than the {len(batches)} batches to keep"
        raise ValueError(message)
    return [*map(list, batches), *([] for _ in range(count - len(batches)))]
