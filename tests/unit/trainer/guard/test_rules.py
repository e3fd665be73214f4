"""Rules as they are resolved from a configuration."""

from typing import Any

import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.guard import Action, EntropyRule, GuardRules, KLRule, LengthRule

DATA = {
    "demonstrations": {"path": "demonstrations.jsonl"},
    "comparisons": {"path": "comparisons.jsonl"},
    "prompts": {"path": "prompts.jsonl"},
}


def config(**sections: dict[str, Any]) -> TrainingConfig:
    return TrainingConfig.model_validate({"model": {"source": "m"}, "data": DATA, **sections})


def test_from_config_defaults_follow_the_target() -> None:
    rules = GuardRules.from_config(config(ppo={"kl": {"targetNats": 4}}))
    assert rules == GuardRules(
        KLRule(limit_nats=10, ceiling_nats=20, consecutive_steps=2, action=Action.STOP)
    )


def test_from_config_named_values_are_taken() -> None:
    rules = GuardRules.from_config(
        config(
            guard={
                "kl": {
                    "limitNats": 8,
                    "ceilingNats": 9,
                    "consecutiveSteps": 5,
                    "action": "ReduceLearningRate",
                },
                "entropy": {"floorNatsPerToken": 0.5, "action": "Stop"},
                "length": {"growthFactor": 2, "consecutiveSteps": 3},
            }
        )
    )
    assert rules == GuardRules(
        KLRule(
            limit_nats=8, ceiling_nats=9, consecutive_steps=5, action=Action.REDUCE_LEARNING_RATE
        ),
        EntropyRule(floor_nats_per_token=0.5, consecutive_steps=2, action=Action.STOP),
        LengthRule(growth_factor=2, consecutive_steps=3, action=Action.WARN),
    )


def test_kl_rule_ceiling_below_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"guard\.kl\.ceilingNats=10: below the limit of 15 nats"):
        KLRule(limit_nats=15, ceiling_nats=10, consecutive_steps=2, action=Action.STOP)
