"""Attention of a packed row is that of its sequences, each by itself."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rlhf_trainer.models import apart

HEADS, SIZE = 4, 8
ROWS = {
    "one": (5,),
    "one width": (16, 9, 16, 1),
    "several widths, in any order": (5, 33, 16, 17, 1, 48, 2),
}


class Attention(nn.Module):
    """What the kernel reads of a layer."""

    is_causal = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


def positions(lengths: tuple[int, ...]) -> Tensor:
    return torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)


def states(lengths: tuple[int, ...], groups: int) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(1, heads, sum(lengths), SIZE) for heads in (HEADS, HEADS // groups, HEADS // groups)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def mask_of(row: Tensor) -> Tensor:
    with apart.kept_apart(row):
        mask = apart._mask(batch_size=1, q_length=1, kv_length=1)
    assert mask is not None
    return mask


def one_by_one(inputs: list[Tensor], lengths: tuple[int, ...], groups: int) -> Tensor:
    query, key, value = inputs
    repeated = [query, *(each.repeat_interleave(groups, 1) for each in (key, value))]
    parts = zip(*(each.split(lengths, 2) for each in repeated), strict=True)
    attend = functional.scaled_dot_product_attention
    outputs = [attend(one, its_key, its_value, is_causal=True) for one, its_key, its_value in parts]
    return torch.cat(outputs, 2).transpose(1, 2)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "from positions alone"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("lengths", ROWS.values(), ids=ROWS)
def test_packed_attention_and_its_gradients_are_those_of_each_sequence(
    *, lengths: tuple[int, ...], groups: int, is_known: bool
) -> None:
    inputs, mask = states(lengths, groups), mask_of(positions(lengths))
    if not is_known:
        mask = mask.clone()
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    output, _ = attend(Attention(groups), *inputs, mask)
    expected = one_by_one(inputs, lengths, groups)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((output * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6)


def test_without_packed_rows_masks_and_attention_are_those_of_transformers() -> None:
    (query, key, value), length = states((6,), 1), 6
    sizes = {"batch_size": 1, "q_length": length, "kv_length": length}
    assert apart._mask(**sizes) is None  # the kernel's own causal mask serves
    masked = apart._mask(**sizes, allow_is_causal_skip=False)
    assert masked is not None
    assert torch.equal(masked[0, 0], torch.ones(length, length, dtype=torch.bool).tril())
    output, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](Attention(1), query, key, value, masked)
    expected = one_by_one([query, key, value], (length,), 1)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)


def test_a_window_narrower_than_a_sequence_is_masked_as_a_whole() -> None:
    row = positions((6, 3))
    sizes = {"batch_size": 1, "q_length": 9, "kv_length": 9, "allow_is_causal_skip": False}
    with apart.kept_apart(row):
        wide, narrow = apart._mask(**sizes, local_size=6), apart._mask(**sizes, local_size=5)
    assert wide is not None
    assert torch.equal(wide.view(-1), row[0])
    assert narrow is not None
    assert narrow.dtype == torch.bool
    assert narrow.shape == (1, 1, 9, 9)
