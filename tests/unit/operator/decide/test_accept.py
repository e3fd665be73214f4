from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.decide import Pool, refusal

SMALL, LARGE = Pool("small", maximum_nodes=2), Pool("large")


@pytest.mark.parametrize(
    ("pool", "nodes", "message"),
    [
        pytest.param("small", 2, None, id="fits"),
        pytest.param("large", 4, None, id="no limit"),
        pytest.param(
            "small",
            4,
            "spec.placement.nodes=4: pool small has 2; use at most 2, or another pool",
            id="too many nodes",
        ),
        pytest.param(
            "smal",
            1,
            "spec.placement.pool=smal: no such pool here; use one of: small, large",
            id="unknown",
        ),
    ],
)
def test_refusal_names_what_to_change(
    build_run: Callable[..., RLHFRun], pool: str, nodes: int, message: str | None
) -> None:
    run = build_run(
        f"spec.placement.pool={pool}",
        f"spec.placement.nodes={nodes}",
        "spec.workspace.accessMode=ReadWriteMany",
    )
    refused = refusal(run.spec, (SMALL, LARGE))
    assert (str(refused) if refused else None) == message
