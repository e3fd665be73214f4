"""Tiny tokenizers: one token per byte, one merge, and whatever special tokens a test asks for."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "<bos>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKING_TEMPLATE = (
    "<bos>{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]


FRAME = {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>"}


@pytest.fixture
def make_tokenizer() -> TokenizerFactory:
    """Return a function that makes a tokenizer from special tokens and roles.

    Ids of special tokens come first; roles are `pad`, `bos`, `eos` and `unk`.
    """

    def make(
        *special: str, chat_template: str | None = None, **roles: str
    ) -> PreTrainedTokenizerFast:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: index for index, token in enumerate([*special, *alphabet, "ab"])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(list(special))
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            chat_template=chat_template,
            **{f"{role}_token": token for role, token in roles.items()},
        )

    return make


@pytest.fixture
def tokenizer(make_tokenizer: TokenizerFactory) -> PreTrainedTokenizerFast:
    """Return a tokenizer with BOS, EOS and PAD, and a chat template that marks nothing."""
    return make_tokenizer(*FRAME.values(), chat_template=CHAT_TEMPLATE, **FRAME)


@pytest.fixture
def marking_tokenizer(make_tokenizer: TokenizerFactory) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose chat template says what the assistant writes, without its EOS."""
    return make_tokenizer(*FRAME.values(), chat_template=MARKING_TEMPLATE, **FRAME)
