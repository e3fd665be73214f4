"""Adapters: roles on one model, apart from each other, and files that plain PEFT reads."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from rlhf_trainer.config.model import LoRAConfig, ModelConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter
from rlhf_trainer.data.tokenizer import load_config
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.adapter_checks import (
    require_adapter,
    require_same_sizes,
    require_targets,
)
from rlhf_trainer.models.adapters import (
    Role,
    active,
    add_adapter,
    copy_adapter,
    load_adapter,
    parameters_of,
    save_adapter,
    train_adapter,
)
from rlhf_trainer.models.loading import load_causal_lm, load_classifier, recomputed_activations

LORA = LoRAConfig(rank=4, alpha=8)
HELD = ModelConfig(source="base")
TOKENS = torch.arange(3, 15).reshape(2, 6)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`"),
    # PEFT 0.21 asks transformers 5 by the old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    size = {"vocab_size": 24, "num_hidden_layers": 2}
    if request.param == "llama":
        model: PreTrainedModel = LlamaForCausalLM(
            LlamaConfig(**size, hidden_size=16, intermediate_size=32, num_attention_heads=2)
        )
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_layer=2, n_embd=16, n_head=2))
    model.save_pretrained(folder)
    return folder


def loaded(base: Path, *, recompute: bool = False) -> PreTrainedModel:
    held = ModelConfig(source=str(base), gradient_checkpointing=recompute)
    return load_causal_lm(base, held, torch.device("cpu"))


def with_roles(base: Path, *roles: Role, recompute: bool = False) -> PreTrainedModel:
    """Return a model whose roles differ."""
    model = loaded(base, recompute=recompute)
    for number, role in enumerate(roles):
        add_adapter(model, LORA, role, HELD, seed=number)
        for parameter in parameters_of(model, role):
            torch.nn.init.normal_(
                parameter, std=0.2, generator=torch.Generator().manual_seed(number)
            )
    return model


def logits(model: torch.nn.Module, role: Role | None = None) -> Tensor:
    with active(model, role):
        values: Tensor = model(input_ids=TOKENS).logits
    return values


def test_new_adapter_changes_nothing_and_is_the_same_for_every_rank(base: Path) -> None:
    plain, model, other = loaded(base), loaded(base), loaded(base)
    add_adapter(model, LORA, Role.POLICY, HELD, seed=7)
    torch.manual_seed(99)  # as another rank's generator would stand
    add_adapter(other, LORA, Role.POLICY, HELD, seed=7)
    assert torch.equal(logits(model, Role.POLICY), logits(plain))
    pairs = zip(parameters_of(model, Role.POLICY), parameters_of(other, Role.POLICY), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert any(value.any() for value in parameters_of(model, Role.POLICY))


def test_adding_an_adapter_draws_nothing_from_the_shared_generator(base: Path) -> None:
    model = loaded(base)
    before = torch.get_rng_state()
    add_adapter(model, LORA, Role.POLICY, HELD, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_roles_are_apart_and_one_without_adapter_is_the_base(base: Path) -> None:
    model = with_roles(base, Role.POLICY, Role.CRITIC)
    plain = logits(loaded(base))
    policy, critic = logits(model, Role.POLICY), logits(model, Role.CRITIC)
    assert not torch.allclose(policy, critic)
    assert not torch.allclose(policy, plain)
    assert torch.equal(logits(model, Role.REFERENCE), plain)
    assert torch.equal(logits(model, None), plain)


def test_active_role_is_restored_and_nothing_else_is_switched(base: Path) -> None:
    model = with_roles(base, Role.POLICY, Role.CRITIC)
    parameters_of(model, Role.POLICY)[0].requires_grad_()
    trained = [parameter.requires_grad for parameter in model.parameters()]
    with active(model, Role.POLICY):
        policy = model(input_ids=TOKENS).logits
        with active(model, Role.CRITIC):
            pass
        with active(model, Role.REFERENCE):
            pass
        assert torch.equal(model(input_ids=TOKENS).logits, policy)
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert sum(trained) == 1


def test_recomputed_layers_keep_the_role_of_their_forward_pass(base: Path) -> None:
    """The backward pass runs when another role is active."""

    def gradients(*, recompute: bool) -> list[Tensor]:
        model = with_roles(base, Role.POLICY, Role.CRITIC, recompute=recompute)
        for role in (Role.POLICY, Role.CRITIC):
            for parameter in parameters_of(model, role):
                parameter.requires_grad_()
        with recomputed_activations(model):
            loss = logits(model, Role.POLICY).square().mean() + logits(model, Role.CRITIC).mean()
            with active(model, Role.REFERENCE):
                loss.backward()  # type: ignore[no-untyped-call] # torch has no type for it
        found = [
            parameter.grad
            for role in (Role.POLICY, Role.CRITIC)
            for parameter in parameters_of(model, role)
        ]
        return [gradient for gradient in found if gradient is not None]

    kept, recomputed = gradients(recompute=False), gradients(recompute=True)
    assert len(kept) == len(recomputed) > 0
    for ours, theirs in zip(recomputed, kept, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_copy_is_the_same_and_then_goes_its_own_way(base: Path) -> None:
    model = with_roles(base, Role.REFERENCE)
    copy_adapter(model, Role.REFERENCE, Role.POLICY)
    reference = logits(model, Role.REFERENCE)
    assert torch.equal(logits(model, Role.POLICY), reference)
    for parameter in parameters_of(model, Role.POLICY):
        parameter.data.mul_(2)
    assert torch.equal(logits(model, Role.REFERENCE), reference)
    assert not torch.allclose(logits(model, Role.POLICY), reference)


def test_saved_adapter_is_what_plain_peft_and_transformers_load(base: Path, tmp_path: Path) -> None:
    model = with_roles(base, Role.POLICY, Role.CRITIC)
    save_adapter(model, Role.CRITIC, tmp_path)
    expected = logits(model, Role.CRITIC)
    assert is_adapter(tmp_path)
    assert base_of(tmp_path) == str(base)
    by_peft = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(by_peft(input_ids=TOKENS).logits, expected, rtol=0, atol=0)
    by_transformers = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(by_transformers(input_ids=TOKENS).logits, expected, rtol=0, atol=0)


def test_adapter_folder_loads_merged_or_into_a_role(base: Path, tmp_path: Path) -> None:
    model = with_roles(base, Role.POLICY)
    save_adapter(model, Role.POLICY, tmp_path)
    expected = logits(model, Role.POLICY)
    other = loaded(base)
    assert load_adapter(other, tmp_path, Role.REFERENCE) == {}
    assert torch.equal(logits(other, Role.REFERENCE), expected)
    merged = load_causal_lm(tmp_path, HELD, torch.device("cpu"))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert all(parameter.requires_grad for parameter in merged.parameters())
    torch.testing.assert_close(merged(input_ids=TOKENS).logits, expected, rtol=1e-4, atol=1e-5)


def test_names_that_no_layer_has_are_refused(base: Path) -> None:
    with pytest.raises(InvalidError, match=r"lora\.targetModules=\('nothing',\)"):
        add_adapter(
            loaded(base), LoRAConfig(target_modules=("nothing",)), Role.POLICY, HELD, seed=0
        )


def test_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    model = with_roles(base, Role.POLICY)
    save_adapter(model, Role.POLICY, tmp_path)
    torch.manual_seed(0)
    wider = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    with pytest.raises(InvalidError, match="cannot be used: "):
        load_adapter(wider, tmp_path, Role.POLICY)


def test_classifiers_head_gets_no_adapter(base: Path) -> None:
    classifier = load_classifier(base, HELD, torch.device("cpu"), new_head=True)
    add_adapter(classifier, LORA, Role.REWARD, HELD, seed=0)
    assert type(classifier.score) is torch.nn.Linear
    assert parameters_of(classifier, Role.REWARD)


def peft_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """Write an adapter as others do, its weights far from zero."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:Model has `tie_word")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens", "wte"]},
        {"target_modules": "all-linear", "modules_to_save": ["embed_tokens", "wte"]},
    ],
    ids=["output-layer", "embedding", "whole-module"],
)
def test_adapter_of_what_all_roles_share_is_refused(
    base: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = peft_adapter(base, tmp_path, **settings)
    with pytest.raises(InvalidError, match="cannot be used: "):
        load_adapter(loaded(base), folder, Role.POLICY)
    config = load_config(str(base), HELD, "base")
    with pytest.raises(InvalidError, match="only linear layers below the output layer"):
        require_adapter(folder, config, "spec.sft.from.path", "adapter")


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_adapter_with_a_pattern_of_layers_is_read_copied_and_written(
    base: Path, tmp_path: Path
) -> None:
    pattern = r".*\.(q_proj|v_proj|c_fc)"
    folder = peft_adapter(base, tmp_path / "theirs", target_modules=pattern)
    require_adapter(folder, load_config(str(base), HELD, "base"), "spec.sft.from.path", "adapter")
    model = loaded(base)
    load_adapter(model, folder, Role.REFERENCE)
    copy_adapter(model, Role.REFERENCE, Role.POLICY)
    expected = logits(model, Role.REFERENCE)
    assert torch.equal(logits(model, Role.POLICY), expected)
    (tmp_path / "ours").mkdir()
    save_adapter(model, Role.POLICY, tmp_path / "ours")
    exported = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(exported(input_ids=TOKENS).logits, expected, rtol=0, atol=0)


def test_recomputation_with_roles_on_different_layers(base: Path) -> None:
    kept, recomputed = (_gradients_on_different_layers(base, recompute=on) for on in (False, True))
    assert len(kept) == len(recomputed) > 0
    for ours, theirs in zip(recomputed, kept, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def _gradients_on_different_layers(base: Path, *, recompute: bool) -> list[Tensor]:
    model = loaded(base, recompute=recompute)
    targets = {Role.POLICY: ("q_proj", "c_attn"), Role.CRITIC: ("v_proj", "c_fc")}
    names = [name for name, _ in model.named_modules()]
    for number, (role, layers) in enumerate(targets.items()):
        found = tuple(layer for layer in layers if any(name.endswith(layer) for name in names))
        add_adapter(model, LoRAConfig(rank=4, target_modules=found), role, HELD, seed=number)
        for parameter in parameters_of(model, role):
            torch.nn.init.normal_(
                parameter, std=0.2, generator=torch.Generator().manual_seed(number)
            )
    trained = [parameter for role in targets for parameter in train_adapter(model, role)]
    with recomputed_activations(model):
        loss = logits(model, Role.POLICY).square().mean() + logits(model, Role.CRITIC).mean()
        loss.backward()  # type: ignore[no-untyped-call] # torch has no type for it
    return [parameter.grad for parameter in trained if parameter.grad is not None]


def test_every_target_must_be_a_linear_layer(base: Path) -> None:
    config = load_config(str(base), HELD, "base")
    known = next(name for name in ("q_proj", "c_attn") if name in str(loaded(base)))
    require_targets(config, LoRAConfig(target_modules=(known,)), "spec.model.lora")
    for name in ("typo", "lm_head", "embed_tokens", "wte"):
        lora = LoRAConfig(target_modules=(known, name))
        with pytest.raises(InvalidError, match=rf"spec\.model\.lora\.targetModules={name}: "):
            require_targets(config, lora, "spec.model.lora")


LAYERS = {
    "q_proj": "[down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj]",
    "c_attn": "[c_attn, c_fc, c_proj]",
}
"""All linear layers below the output layer, by the name of one."""


def test_adapter_of_other_sizes_is_refused_with_those_to_write(base: Path, tmp_path: Path) -> None:
    model = with_roles(base, Role.POLICY)
    save_adapter(model, Role.POLICY, tmp_path)
    config = load_config(str(base), HELD, "base")
    known = next(name for name in LAYERS if name in str(model))

    def check(**sizes: Any) -> None:
        lora = LoRAConfig(**{"rank": 4, "alpha": 8, **sizes})
        require_same_sizes(tmp_path, config, lora, "spec.sft.from.path", "adapter")

    check(dropout=0.1)
    with pytest.raises(InvalidError) as refused:
        check(rank=16)
    assert str(refused.value) == (
        "spec.sft.from.path=adapter: it is trained on as it is, with rank 4, and spec.model.lora "
        "has rank 16; write rank: 4 in spec.model.lora"
    )
    with pytest.raises(InvalidError) as refused:
        check(alpha=0.5, target_modules=(known,))
    assert str(refused.value).endswith(
        f"with alpha 8, targetModules {LAYERS[known]}, and spec.model.lora has alpha 0.5, "
        f"targetModules [{known}]; write alpha: 8, targetModules: {LAYERS[known]} in "
        "spec.model.lora"
    )


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("rank_pattern", "several ranks or alphas"),
        ("alpha_pattern", "several ranks or alphas"),
        ("layers_to_transform", "spec.model.lora adapts .*, and it does not"),
    ],
    ids=["ranks", "alphas", "layers"],
)
def test_adapter_that_differs_between_layers_is_refused(
    base: Path, tmp_path: Path, pattern: str, problem: str
) -> None:
    config, whole = load_config(str(base), HELD, "base"), loaded(base)
    name = next(name for name in LAYERS if name in str(whole))
    different: Any = [0] if pattern == "layers_to_transform" else {name: 2}
    targets = LAYERS[name].strip("[]").split(", ")
    kwargs = {"r": 4, "lora_alpha": 8, "target_modules": targets, pattern: different}
    lora = peft.LoraConfig(fan_in_fan_out=name == "c_attn", **kwargs)
    peft.get_peft_model(whole, lora).save_pretrained(str(tmp_path))
    with pytest.raises(InvalidError, match=problem):
        require_same_sizes(
            tmp_path, config, LoRAConfig(rank=4, alpha=8), "spec.sft.from.path", "adapter"
        )


def test_adapter_trains_with_its_own_dropout_unless_another_is_given(
    base: Path, tmp_path: Path
) -> None:
    lora, model = LORA.model_copy(update={"dropout": 0.25}), loaded(base)
    add_adapter(model, lora, Role.POLICY, HELD, seed=0)
    save_adapter(model, Role.POLICY, tmp_path)
    for dropout, expected in ((None, {0.25}), (0.5, {0.5}), (0.0, set())):
        model = loaded(base)
        load_adapter(model, tmp_path, Role.REWARD, dropout=dropout)
        layers = [part for part in model.modules() if isinstance(part, peft.tuners.lora.LoraLayer)]
        drops = [layer.lora_dropout[Role.REWARD] for layer in layers]
        assert {drop.p for drop in drops if isinstance(drop, torch.nn.Dropout)} == expected


def test_pefts_private_state_is_where_it_is_set(base: Path) -> None:
    """The two attributes that `active` sets are those that PEFT's properties read."""
    model = with_roles(base, Role.POLICY, Role.CRITIC)
    layer = next(part for part in model.modules() if isinstance(part, peft.tuners.lora.LoraLayer))
    with active(model, Role.CRITIC):
        assert layer.active_adapters == [Role.CRITIC]
        assert not layer.disable_adapters
    with active(model, Role.REFERENCE):
        assert layer.disable_adapters


def test_adapter_that_names_no_base_is_refused(base: Path, tmp_path: Path) -> None:
    save_adapter(with_roles(base, Role.POLICY), Role.POLICY, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text("utf-8").replace(str(base), ""), encoding="utf-8")
    with pytest.raises(InvalidError, match="base_model_name_or_path=: names no model"):
        base_of(tmp_path)
