"""Layers that multiply by oneDNN against torch's own, forward and backward."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.config.model import LoRAConfig, ModelConfig
from rlhf_trainer.models.adapters import Role, active, add_adapter, merge, train_adapter
from rlhf_trainer.models.loading import load_causal_lm, load_classifier
from rlhf_trainer.models.packed_linear import packed
from rlhf_trainer.models.trained_linear import (
    LEAST_FEATURES,
    TrainedConv1D,
    TrainedLinear,
    multiply_by_onednn,
)

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
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "n_inner": 48}
ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")


def made(model_type: str, *, adapter: bool = False, onednn: bool = False) -> PreTrainedModel:
    """Return a model as a phase has it: adapters come after loading."""
    torch.manual_seed(0)
    settings = COMMON | (GPT2 if model_type == "gpt2" else {})
    lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    if onednn:
        multiply_by_onednn(lm)
    if adapter:
        add_adapter(lm, LoRAConfig(rank=2), Role.POLICY, ModelConfig(source="x"), seed=0)
        for parameter in train_adapter(lm, Role.POLICY):
            nn.init.normal_(parameter, std=0.1)
    return lm


def swapped(model: nn.Module) -> int:
    return sum(isinstance(layer, TrainedLinear | TrainedConv1D) for layer in model.modules())


def learned(lm: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the logits of a pass, and the gradient of every parameter that has one."""
    with active(lm, Role.POLICY):
        logits = lm(input_ids=TOKENS).logits
        logits.log_softmax(-1)[..., 7].sum().backward()
    gradients = {
        name: value.grad for name, value in lm.named_parameters() if value.grad is not None
    }
    return {"logits": logits.detach()} | gradients


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_model_learns_the_same(*, model_type: str, adapter: bool, products: list[int]) -> None:
    expected = learned(made(model_type, adapter=adapter))
    lm = made(model_type, adapter=adapter, onednn=True)
    found = learned(lm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Forward and to the inputs; below the first layer's adapters nothing learns.
    below = 0 if not adapter else {"gpt2": 1}.get(model_type, 3)
    assert products[0] == 2 * swapped(lm) - below
    assert swapped(lm) >= 2 * 4 + 1


def test_recomputed_layers_learn_the_same(products: list[int]) -> None:
    expected = learned(made("llama"))
    lm = made("llama", onednn=True)
    lm.train()
    lm.activation_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(learned(lm), expected, rtol=1e-4, atol=1e-5)
    assert products[0] > 2 * swapped(lm)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(32,), (1, 32), (5, 32), (2, 3, 32)], ids=str)
def test_rows_of_any_shape(*, shape: tuple[int, ...], bias: bool) -> None:
    plain = nn.Linear(32, 48, bias=bias)
    layer = copy.deepcopy(plain)
    multiply_by_onednn(layer)
    for each in (plain, layer):
        rows = torch.randn(shape, generator=torch.manual_seed(0), requires_grad=True)
        # A sum's gradient is one number, repeated without memory of its own.
        output = each(rows)
        output.sum().backward()
        each.seen = (output.detach(), rows.grad)
    torch.testing.assert_close(layer.seen, plain.seen)
    for one, other in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_outputs_can_be_changed_in_place() -> None:
    """As some models do: they clamp queries, keys and values."""
    layer = nn.Linear(32, 48)
    multiply_by_onednn(layer)
    layer(torch.ones(2, 3, 32)).clamp_(-0.1, 0.1).sum().backward()
    assert layer.weight.grad is not None


def test_frozen_layers_keep_no_inputs() -> None:
    layer = nn.Linear(32, 48).requires_grad_(requires_grad=False)
    multiply_by_onednn(layer)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    rows = torch.ones(5, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(rows).sum().backward()
    assert kept == [(48, 32)]
    torch.testing.assert_close(rows.grad, layer.weight.sum(0).expand(5, 32))


def test_autocast_is_heeded() -> None:
    layer = nn.Linear(32, 48)
    multiply_by_onednn(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(2, 32)).dtype is torch.bfloat16


def test_it_can_be_switched_off(products: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(32, 48)
    multiply_by_onednn(layer)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    layer(torch.ones(2, 32)).sum().backward()
    assert products == [0]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_packed_layers_are_packed_still(*, model_type: str, products: list[int]) -> None:
    lm = made(model_type, adapter=True, onednn=True)
    with torch.no_grad(), active(lm, Role.POLICY):
        expected = lm(input_ids=TOKENS).logits
        with packed(lm):
            found = lm(input_ids=TOKENS).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert products[0] == swapped(lm)


def test_merged_adapters_are_in_the_product() -> None:
    lm = made("llama", adapter=True, onednn=True)
    with torch.no_grad(), active(lm, Role.POLICY):
        expected = lm(input_ids=TOKENS).logits
    lm = merge(lm)
    torch.testing.assert_close(lm(input_ids=TOKENS).logits, expected, rtol=1e-4, atol=1e-5)


def test_rows_that_lie_apart_in_memory() -> None:
    plain = nn.Linear(32, 48)
    layer = copy.deepcopy(plain)
    multiply_by_onednn(layer)
    for each in (plain, layer):
        rows = torch.arange(2 * 32 * 5.0).view(2, 32, 5).div(100).requires_grad_()
        output = each(rows.transpose(1, 2)).transpose(1, 2)
        (output * torch.arange(5.0)).sum().backward()
        each.seen = (output.detach(), rows.grad)
    torch.testing.assert_close(layer.seen, plain.seen)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def _sharded(layer: nn.Linear) -> nn.Linear:
    layer.weight.ds_id = 1
    return layer


@pytest.mark.parametrize(
    ("layer", "rows"),
    [
        pytest.param(nn.Linear(32, 48), torch.zeros(0, 32), id="no-rows"),
        pytest.param(nn.Linear(32, 48).double(), torch.ones(2, 32).double(), id="float64"),
        pytest.param(nn.Linear(32, 48).bfloat16(), torch.ones(2, 32).bfloat16(), id="bfloat16"),
        pytest.param(_sharded(nn.Linear(32, 48)), torch.ones(2, 32), id="sharded"),
        pytest.param(Conv1D(48, 32).double(), torch.ones(2, 32).double(), id="gpt2-float64"),
    ],
)
def test_others_compute_as_before(
    layer: nn.Module, rows: torch.Tensor, products: list[int]
) -> None:
    plain = copy.deepcopy(layer)
    multiply_by_onednn(layer)
    assert swapped(layer) == 1
    torch.testing.assert_close(layer(rows), plain(rows))
    layer(rows).sum().backward()
    assert products == [0]


def test_without_gradient_nothing_is_changed(products: list[int]) -> None:
    layer = nn.Linear(32, 48)
    multiply_by_onednn(layer)
    with torch.no_grad():
        layer(torch.ones(2, 32))
    assert products == [0]
    with torch.no_grad(), packed(layer):
        layer(torch.ones(2, 32))
    assert products == [1]


class _Doubled(nn.Linear):
    """Stands for the many classes that compute something else than their parent."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(rows)


@pytest.mark.parametrize(
    "layer", [nn.Linear(32, LEAST_FEATURES - 1), _Doubled(32, 48)], ids=["narrow", "subclass"]
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    before = type(layer)
    multiply_by_onednn(layer)
    assert type(layer) is before


def test_a_copy_has_weights_of_its_own_and_files_are_the_same(tmp_path: Path) -> None:
    lm = made("llama")
    state = {name: value.clone() for name, value in lm.state_dict().items()}
    multiply_by_onednn(lm)
    twin = copy.deepcopy(lm)
    with torch.no_grad():
        for value in lm.parameters():
            value.zero_()
    assert swapped(twin) == swapped(lm)
    twin.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert saved.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(saved[name], value)
    torch.testing.assert_close(learned(twin), learned(made("llama")), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("load", [load_causal_lm, load_classifier], ids=["policy", "classifier"])
@pytest.mark.parametrize(
    ("capability", "pays"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)]
)
def test_models_are_loaded_so_where_it_pays(
    *,
    load: Callable[..., PreTrainedModel],
    capability: str,
    pays: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    made("llama").save_pretrained(tmp_path)
    own = {} if load is load_causal_lm else {"new_head": True}
    lm = load(tmp_path, ModelConfig(source=str(tmp_path)), torch.device("cpu"), **own)
    layers = 2 * 7 + (load is load_causal_lm)  # its output layer
    assert swapped(lm) == (layers if pays else 0)
