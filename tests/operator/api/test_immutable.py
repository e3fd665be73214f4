"""What of a run may change once it exists."""

from collections.abc import Mapping
from typing import Any

import pytest
from minimal import Json, changed
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes

from rlhf_operator.api.crd.rules import IMMUTABLE, immutable

CHANGES = {
    "model": {"spec.model.source": "other"},
    "data": {"spec.data.prompts.maximumTokens": 64},
    "sft": {"spec.sft.from": {"path": "a"}},
    "rewardModel": {"spec.rewardModel.dropout": 0.1},
    "ppo": {"spec.ppo.kl.coefficient": 0.5},
    "evaluation": {"spec.evaluation.minimumWinRate": 0.5},
    "deepspeed": {"spec.deepspeed.overrides": {"b": 1}},
    "checkpoint": {"spec.checkpoint.everySteps": 3},
    "seed": {"spec.seed": 1},
    "workspace": {"spec.workspace.size": "2Gi"},
}


@pytest.fixture(scope="module")
def existing(api: Kubernetes) -> Json:
    """A run that exists."""
    run = changed({"metadata.name": "existing", "spec.deepspeed.overrides": {"a": 1}})
    api.apply(run)
    return run


@pytest.mark.parametrize("field", IMMUTABLE)
def test_field_of_the_training_half_cannot_change(
    api: Kubernetes, existing: Json, field: str
) -> None:
    with pytest.raises(CommandError) as refused:
        api.apply(changed(CHANGES[field], existing))
    assert immutable(field).message in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.guard.kl.limitNats": 20},
        {"spec.runPolicy.suspend": True},
        {"spec.image": "trainer:2"},
        {"spec.placement.pool": "other"},
        {"spec.podTemplate.env": [{"name": "A", "value": "1"}]},
        {"spec.monitoring.scrapeIntervalSeconds": 5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_half_may_change(api: Kubernetes, existing: Json, changes: Mapping[str, Any]) -> None:
    api.apply(changed(changes, existing))
