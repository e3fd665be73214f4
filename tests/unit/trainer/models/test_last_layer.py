"""The last layer at chosen positions against the whole layer, of which they are picked."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlhf_trainer.config.model import LoRAConfig, ModelConfig
from rlhf_trainer.models.adapters import Role, active, add_adapter, train_adapter
from rlhf_trainer.models.batch import SequenceBatch, collate, pack, response_mask
from rlhf_trainer.models.last_layer import KNOWN, hidden_at
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.models.packing import hidden_states

CPU = torch.device("cpu")
VOCABULARY, LENGTHS, PROMPT = 50, (12, 7, 4, 9), 3
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48},
    "mistral": {"sliding_window": 4},
    "mixtral": {"num_local_experts": 2},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
}
# PEFT warns of its own pattern for Mixtral's experts.
CASES = [(name, adapter) for name in KNOWN for adapter in (False, True) if name != "mixtral"]
CASES.append(("mixtral", False))
UNKNOWN = {"gpt_neox": {}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}}


def made(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    settings = COMMON | (OWN | UNKNOWN).get(model_type, {})
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


def with_adapter(lm: PreTrainedModel) -> PreTrainedModel:
    held = ModelConfig(source="x")
    add_adapter(lm, LoRAConfig(rank=2), Role.POLICY, held, seed=0)
    for parameter in train_adapter(lm, Role.POLICY):
        torch.nn.init.normal_(parameter, std=0.1)
    return lm


def batch(*, packed: bool) -> SequenceBatch:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(3, VOCABULARY, length) for length in LENGTHS]
    masks = [response_mask(PROMPT, length) for length in LENGTHS]
    return (pack if packed else collate)(sequences, masks, CPU)


def picked(trunk: torch.nn.Module, item: SequenceBatch) -> torch.Tensor:
    hidden = hidden_states(trunk, item.tokens_BT, item.positions_BT)
    return hidden.flatten(0, 1).index_select(0, item.predict_N)


def chosen(trunk: torch.nn.Module, item: SequenceBatch) -> torch.Tensor:
    return hidden_at(trunk, item.tokens_BT, item.predict_N, item.positions_BT)


def gradients(lm: PreTrainedModel, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    lm.zero_grad()
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    (hidden * weights).sum().backward()
    named = lm.base_model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(("model_type", "adapter"), CASES)
def test_hidden_states_and_gradients_are_those_of_the_whole_layer(
    *, model_type: str, packed: bool, adapter: bool
) -> None:
    lm, item = made(model_type), batch(packed=packed)
    lm = with_adapter(lm) if adapter else lm
    with active(lm, Role.POLICY):
        expected = picked(lm.base_model, item)
        expected_gradients = gradients(lm, expected)
        found = chosen(lm.base_model, item)
        found_gradients = gradients(lm, found)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found_gradients.keys() == expected_gradients.keys()
    assert expected_gradients
    for name, gradient in found_gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", KNOWN)
def test_only_the_last_layer_computes_fewer_rows(model_type: str) -> None:
    lm, item = made(model_type), batch(packed=False)
    layers = lm.base_model.get_submodule(KNOWN[model_type].layers)
    rows: list[int] = []
    for layer in layers:
        mlp = layer.get_submodule("mlp")
        mlp.register_forward_hook(lambda _m, inputs, _o: rows.append(inputs[0].shape[:-1].numel()))
    with torch.no_grad():
        chosen(lm.base_model, item)
        picked(lm.base_model, item)  # the hooks are gone
    whole, wanted = item.tokens_BT.numel(), len(item.predict_N)
    assert rows == [whole, wanted, whole, whole]


@pytest.mark.parametrize("model_type", UNKNOWN)
def test_an_unknown_architecture_computes_all_rows(model_type: str) -> None:
    lm, item = made(model_type), batch(packed=False)
    with torch.no_grad():
        assert torch.equal(chosen(lm.base_model, item), picked(lm.base_model, item))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_recomputed_layers_compute_all_rows(model_type: str) -> None:
    """In the backward pass the hooks would be gone."""
    lm, item = made(model_type), batch(packed=False)
    expected = gradients(lm, picked(lm.base_model, item))
    lm.activation_checkpointing_enable({"use_reentrant": False})
    with recomputed_activations(lm):
        found = gradients(lm, chosen(lm.base_model, item))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])


def test_no_wanted_position_gives_no_rows() -> None:
    """A rank without work still takes part."""
    lm, item = made("llama"), collate([], [], CPU)
    hidden = chosen(lm.base_model, item)
    assert hidden.shape == (0, 32)
    assert all(not gradient.any() for gradient in gradients(lm, hidden).values())
