"""A twin computes what its owner does, with the owner's weights and none of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM
from typing_extensions import override

from rlhf_trainer.models.borrowing import Borrower

HIDDEN, VOCABULARY = 32, 64


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    @override
    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def llama(*, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval()


def nothing(twin: torch.nn.Module) -> bool:
    return not any(weight.numel() for weight in twin.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_twin_computes_with_the_owners_weights(*, tied: bool) -> None:
    owner = llama(tied=tied)
    borrower = Borrower(owner)
    tokens = torch.arange(6).unsqueeze(0)
    assert nothing(borrower.model)
    with torch.no_grad(), borrower.lent() as twin:
        assert torch.equal(twin(tokens).logits, owner(tokens).logits)
    assert nothing(borrower.model)
    assert owner(tokens).logits.requires_grad


def test_twin_is_made_without_a_copy_of_the_weights() -> None:
    owner = llama(tied=False)
    with Largest() as largest:
        Borrower(owner)
    assert largest.elements < HIDDEN * HIDDEN
