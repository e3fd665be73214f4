from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.data.special_tokens import NEW_PAD_TOKEN, SpecialTokens, choose_special_tokens
from rlhf_trainer.errors import InvalidError

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]
NUM_BYTES = 257
"""Ordinary tokens of the tiny tokenizer."""


@pytest.mark.parametrize(
    ("special", "roles", "spare", "expected", "pad_token"),
    [
        pytest.param(
            ("<pad>", "<bos>", "<eos>"),
            {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>"},
            0,
            SpecialTokens(bos=1, eos=2, pad=0),
            "<pad>",
            id="its own",
        ),
        pytest.param(
            ("<unk>", "<bos>", "<eos>"),
            {"unk": "<unk>", "bos": "<bos>", "eos": "<eos>"},
            0,
            SpecialTokens(bos=1, eos=2, pad=0),
            "<unk>",
            id="UNK, as Llama 2",
        ),
        pytest.param(
            ("<unk>", "<eos>", "<|reserved_0|>"),
            {"unk": "<unk>", "eos": "<eos>", "pad": "<eos>"},
            5,
            SpecialTokens(bos=None, eos=1, pad=2),
            "<|reserved_0|>",
            id="a reserved token, as Llama 3, before UNK and a new one",
        ),
        pytest.param(
            ("<eos>",),
            {"eos": "<eos>", "pad": "<eos>"},
            1,
            SpecialTokens(bos=None, eos=0, pad=NUM_BYTES + 1),
            NEW_PAD_TOKEN,
            id="a new one in a spare row, as Qwen",
        ),
        pytest.param(
            ("<eos>",),
            {"bos": "<eos>", "eos": "<eos>", "pad": "<eos>"},
            0,
            SpecialTokens(bos=0, eos=0, pad=1),
            "<eos>",
            id="an ordinary token, as GPT-NeoX, the tokenizer left alone",
        ),
        pytest.param(
            ("<bos>", "<eos>"),
            {"bos": "<bos>", "eos": "<eos>"},
            0,
            SpecialTokens(bos=0, eos=1, pad=2),
            None,
            id="an ordinary token that is neither BOS nor EOS",
        ),
    ],
)
def test_pad_is_chosen_apart_from_eos(
    make_tokenizer: TokenizerFactory,
    special: tuple[str, ...],
    roles: dict[str, Any],
    spare: int,
    expected: SpecialTokens,
    pad_token: str | None,
) -> None:
    tokenizer = make_tokenizer(*special, **roles)
    chosen = choose_special_tokens(tokenizer, len(tokenizer) + spare, "spec.model.source")
    assert chosen == expected
    assert tokenizer.pad_token == pad_token


def test_pad_outside_the_embedding_is_not_used(make_tokenizer: TokenizerFactory) -> None:
    tokenizer = make_tokenizer("<unk>", "<eos>", unk="<unk>", eos="<eos>")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == NUM_BYTES + 2
    chosen = choose_special_tokens(tokenizer, NUM_BYTES + 2, "spec.model.source")
    assert chosen.pad == 0


def test_tokenizer_without_eos_is_refused(make_tokenizer: TokenizerFactory) -> None:
    tokenizer = make_tokenizer("<bos>", bos="<bos>")
    tokenizer.name_or_path = "tiny"
    with pytest.raises(InvalidError) as caught:
        choose_special_tokens(tokenizer, len(tokenizer), "spec.model.source")
    assert caught.value.message == (
        "spec.model.source='tiny': its tokenizer has no end-of-sequence token, so that no response "
        "can end; set eos_token in its tokenizer_config.json"
    )


def test_special_token_outside_the_embedding_is_refused(make_tokenizer: TokenizerFactory) -> None:
    tokenizer = make_tokenizer("<bos>", "<eos>", bos="<bos>", eos="<eos>")
    with pytest.raises(InvalidError) as caught:
        choose_special_tokens(tokenizer, 1, "spec.model.source")
    assert caught.value.message == (
        "spec.model.source eos_token=1: is no token of the model, whose vocabulary has 1; "
        "use the tokenizer that belongs to the model"
    )
