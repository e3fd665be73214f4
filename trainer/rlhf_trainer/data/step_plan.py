"""Who works through which rows of an update, and in which micro-batches."""

from collections.abc import Sequence

from rlhf_trainer.data.micro_batches import equalise, token_budget_micro_batches


def plan_step(
    lengths: Sequence[int],
    *,
    budget_tokens: int,
    rank: int,
    world_size: int,
    packing: bool = False,
) -> list[list[int]]:
    """Return this rank's micro-batches of an update's rows, as indices into `lengths` (in tokens).

    Rows are dealt out by length, so that all ranks have about the same work; all get the same
    number of micro-batches, the last ones of some may be empty. Every rank computes the plan of
    all: nothing is exchanged.
    """
    by_length = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    plans = []
    for other in range(world_size):
        share = by_length[other::world_size]
        batches = token_budget_micro_batches(
            [lengths[row] for row in share], budget_tokens, packing=packing
        )
        plans.append([[share[index] for index in batch] for batch in batches])
    return equalise(plans[rank], max(len(plan) for plan in plans))
