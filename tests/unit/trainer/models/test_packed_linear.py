"""Packed weights against the layers they stand for, and everything else against what it was."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.config.model import LoRAConfig, ModelConfig
from rlhf_trainer.models.adapters import Role, active, add_adapter, train_adapter
from rlhf_trainer.models.packed_linear import LEAST_FEATURES, packed

TOKENS = torch.arange(24).view(3, 8)
COMMON = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}
ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")


def made(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    own = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "n_inner": 48}
    settings = COMMON | (own if model_type == "gpt2" else {})
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


def with_adapter(lm: PreTrainedModel) -> PreTrainedModel:
    add_adapter(lm, LoRAConfig(rank=2), Role.POLICY, ModelConfig(source="x"), seed=0)
    for parameter in train_adapter(lm, Role.POLICY):
        nn.init.normal_(parameter, std=0.1)
    return lm


def linear_layers(model: nn.Module) -> int:
    return sum(
        type(layer) in (nn.Linear, Conv1D) and min(layer.weight.shape) >= LEAST_FEATURES
        for layer in model.modules()
    )


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_packed_layers_give_the_same_logits(
    *, model_type: str, adapter: bool, products: list[int]
) -> None:
    lm = with_adapter(made(model_type)) if adapter else made(model_type)
    with torch.no_grad(), active(lm, Role.POLICY):
        expected = lm(input_ids=TOKENS).logits
        with packed(lm):
            found = lm(input_ids=TOKENS).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert products[0] == linear_layers(lm)


def test_bfloat16_layers_give_the_same_logits() -> None:
    lm = made("llama").bfloat16()
    with torch.no_grad():
        expected = lm(input_ids=TOKENS).logits
        with packed(lm):
            found = lm(input_ids=TOKENS).logits
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_nothing_stays_behind(products: list[int], tmp_path: Path) -> None:
    lm = made("llama")
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    attributes = [set(vars(module)) for module in lm.modules()]
    with packed(lm):
        assert lm.state_dict().keys() == before.keys()
        lm.save_pretrained(tmp_path)
    assert [set(vars(module)) for module in lm.modules()] == attributes
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    for name, value in before.items():
        assert torch.equal(lm.state_dict()[name], value)
        assert torch.equal(saved[name], value)
    with torch.no_grad():
        lm(input_ids=TOKENS)
    assert products == [0]


def test_a_block_packs_the_weights_of_its_time() -> None:
    layer, rows = nn.Linear(32, 48), torch.randn(5, 32)
    with torch.no_grad():
        for _ in range(2):
            layer.weight.add_(1)
            with packed(layer):
                torch.testing.assert_close(
                    layer(rows), nn.functional.linear(rows, *layer.parameters())
                )


def test_a_pass_with_gradient_finds_the_layers_as_they_were(products: list[int]) -> None:
    layer, rows = nn.Linear(32, 48), torch.randn(5, 32)
    with packed(layer):
        layer(rows).sum().backward()
    assert products == [0]
    torch.testing.assert_close(layer.weight.grad, rows.sum(0).expand(48, 32))


def test_hooks_run_and_an_inner_block_changes_nothing(products: list[int]) -> None:
    layer, seen = nn.Linear(32, 48), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    with torch.no_grad(), packed(layer):
        with packed(layer):
            layer(torch.zeros(1, 32))
        layer(torch.zeros(1, 32))
    assert seen == ["before", "after"] * 2
    assert products == [2]


class _Doubled(nn.Linear):
    """Stands for the many classes that compute something else than their parent."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(rows)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.Linear(32, 1), id="narrow"),
        pytest.param(nn.Linear(32, 48, dtype=torch.float64), id="float64"),
        pytest.param(nn.Linear(32, 48, device="meta"), id="elsewhere"),
        pytest.param(_Doubled(32, 48), id="subclass"),
    ],
)
def test_other_layers_are_left_as_they_are(layer: nn.Module) -> None:
    with packed(layer):
        assert "forward" not in vars(layer)


def test_weights_that_are_not_here_are_left_out() -> None:
    """ZeRO-3 leaves an empty vector."""
    layer = nn.Linear(32, 48)
    layer.weight.data = torch.empty(0)
    with packed(layer):
        assert "forward" not in vars(layer)
