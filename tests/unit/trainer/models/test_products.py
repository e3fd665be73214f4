"""Linear layers that multiply with oneDNN give what torch's give, and are linear layers."""

import copy

import pytest
import torch
from torch import nn

from rlhf_trainer.models.packed_linear import packed
from rlhf_trainer.models.products import OneDNNLinear, multiply_by_onednn


def network(*, bias: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Tanh(), nn.Linear(40, 32, bias=bias))


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_torch(*, bias: bool, shape: tuple[int, ...]) -> None:
    plain, ours = network(bias=bias), network(bias=bias)
    multiply_by_onednn(ours)
    assert isinstance(ours[0], OneDNNLinear)
    rows, results = torch.randn(shape, requires_grad=True), []
    for model in (plain, ours):
        output = model(rows)
        weight = torch.linspace(-1, 1, output.numel()).view_as(output)
        gradients = torch.autograd.grad((output * weight).sum(), [rows, *model.parameters()])
        results.append((output, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_frozen_weights_hand_gradients_through() -> None:
    model = network(bias=True).requires_grad_(requires_grad=False)
    multiply_by_onednn(model)
    rows = torch.randn(3, 24, requires_grad=True)
    model(rows).sum().backward()
    assert rows.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_narrow_layers_other_formats_and_other_classes_stay() -> None:
    class Own(nn.Linear):
        pass

    layers = [nn.Linear(24, 1), nn.Linear(24, 24).bfloat16(), Own(24, 24)]
    kinds = [type(layer) for layer in layers]
    multiply_by_onednn(nn.ModuleList(layers))
    assert [type(layer) for layer in layers] == kinds


def test_a_copy_multiplies_by_its_own_weights() -> None:
    model = network(bias=False)
    multiply_by_onednn(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    rows = torch.randn(3, 24)
    assert not twin(rows).any()
    assert model(rows).any()


def test_packed_weights_take_precedence_without_gradient() -> None:
    model = network(bias=True)
    expected = model(torch.ones(2, 24))
    multiply_by_onednn(model)
    with packed(model), torch.no_grad():
        assert "forward" in vars(model[0])
        torch.testing.assert_close(model(torch.ones(2, 24)), expected, rtol=1e-5, atol=1e-6)
    assert "forward" not in vars(model[0])
