"""Which networks a phase holds, and how many of their parameters learn, counted by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.networks import Models, networks_of

Sizes = Callable[[str], Architecture]
Configured = Callable[..., TrainingConfig]

HIDDEN, INNER, LAYERS = 4096, 11_008, 32
WHOLE = 6_738_415_616
CLASSIFIER = WHOLE - 32_000 * HIDDEN + HIDDEN
ADAPTER = 16 * LAYERS * (4 * (HIDDEN + HIDDEN) + 3 * (HIDDEN + INNER))
HEAD = HIDDEN + 1
LORA: dict[str, Any] = {"model": {"lora": {}}}
SHARED: dict[str, Any] = {"ppo": {"critic": "SharedTrunk"}}


@pytest.mark.parametrize(
    ("sections", "found", "expected"),
    [
        pytest.param(
            {},
            {},
            [
                ("reference", WHOLE, 0),
                ("policy", WHOLE, WHOLE),
                ("critic", CLASSIFIER, CLASSIFIER),
                ("reward model", CLASSIFIER, 0),
            ],
            id="whole",
        ),
        pytest.param(
            SHARED,
            {},
            [
                ("reference", WHOLE, 0),
                ("policy", WHOLE + HEAD, WHOLE + HEAD),
                ("reward model", CLASSIFIER, 0),
            ],
            id="shared-trunk",
        ),
        pytest.param(
            LORA,
            {},
            # SFT's, and the reward model's with its head, stay; the policy's and the critic's learn
            [("policy", WHOLE + 4 * ADAPTER + HIDDEN + HEAD, 2 * ADAPTER + HEAD)],
            id="adapters",
        ),
        pytest.param(
            LORA | SHARED,
            {},
            [("policy", WHOLE + 3 * ADAPTER + HIDDEN + HEAD, ADAPTER + HEAD)],
            id="adapters-and-shared-trunk",
        ),
        pytest.param(
            LORA,
            {"sft_is_adapter": False},
            [("policy", WHOLE + 3 * ADAPTER + HIDDEN + HEAD, 2 * ADAPTER + HEAD)],
            id="adapters-of-a-whole-sft-model",
        ),
        pytest.param(
            LORA,
            {"has_own_reward": True},
            [
                ("policy", WHOLE + 2 * ADAPTER, ADAPTER),
                ("critic", CLASSIFIER + ADAPTER, ADAPTER + HIDDEN),
                ("reward model", CLASSIFIER, 0),
            ],
            id="adapters-and-a-base-of-the-reward-models",
        ),
        pytest.param(
            LORA,
            {"has_own_reward": True, "reward_reads_text": True},
            [
                ("policy", WHOLE + 3 * ADAPTER + HEAD, 2 * ADAPTER + HEAD),
                ("reward model", CLASSIFIER, 0),
            ],
            id="adapters-and-a-reward-model-that-reads-text",
        ),
    ],
)
def test_networks_of_ppo(
    llama: Sizes,
    configured: Configured,
    sections: dict[str, Any],
    found: dict[str, bool],
    expected: list[tuple[str, int, int]],
) -> None:
    of = llama("llama-2-7b")
    networks = networks_of(Phase.PPO, configured(**sections), Models(of, of, **found))
    assert [(each.name, each.parameters, each.trained) for each in networks] == expected


def test_critic_of_a_reward_model_that_reads_text_is_the_policys_size(
    llama: Sizes, configured: Configured
) -> None:
    policy = llama("llama-2-7b")
    small = replace(policy, classifier_parameters=1000)
    models = Models(policy, small, has_own_reward=True, reward_reads_text=True)
    critic, scorer = networks_of(Phase.PPO, configured(), models)[2:]
    assert (critic.parameters, scorer.parameters) == (CLASSIFIER, 1000)


@pytest.mark.parametrize(
    ("has_own_reward", "expected"),
    [
        (False, [("base", WHOLE + 3 * ADAPTER)]),
        (True, [("base", WHOLE + 2 * ADAPTER), ("reward model", CLASSIFIER)]),
    ],
)
def test_evaluation_of_adapters_holds_one_base(
    llama: Sizes,
    configured: Configured,
    *,
    has_own_reward: bool,
    expected: list[tuple[str, int]],
) -> None:
    of = llama("llama-2-7b")
    models = Models(of, of, has_own_reward=has_own_reward)
    networks = networks_of(Phase.EVALUATION, configured(**LORA), models)
    assert [(each.name, each.parameters) for each in networks] == expected


def test_reward_model_with_adapters_learns_its_head_too(
    llama: Sizes, configured: Configured
) -> None:
    of = llama("llama-2-7b")
    (only,) = networks_of(Phase.REWARD_MODEL, configured(**LORA), Models(of, of))
    assert (only.parameters, only.trained) == (CLASSIFIER + ADAPTER, ADAPTER + HIDDEN)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [(("q_proj",), LAYERS), (("model.layers.0.q_proj",), 1), (("proj",), 0)],
)
def test_targets_are_names_or_ends_of_names(
    llama: Sizes, targets: tuple[str, ...], layers: int
) -> None:
    of = llama("llama-2-7b")
    assert of.adapter_parameters(1, targets) == layers * 2 * HIDDEN
    assert of.adapter_elements(3, targets) == layers * 3
