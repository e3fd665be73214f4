"""Conversations in the styles that most chat models use: what is learned, and what PPO continues.

The templates are written for these tests in the well-known shapes, without those models' texts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.data.encoding import Encoder
from rlhf_trainer.data.records import Comparison, Demonstration, Message, Prompt, Role
from rlhf_trainer.data.special_tokens import choose_special_tokens

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]

SYSTEM = Message(Role.SYSTEM, "Brief")
HELLO, MORE = Message(Role.USER, "Hello"), Message(Role.USER, "More")
HI, BYE = Message(Role.ASSISTANT, "Hi"), Message(Role.ASSISTANT, "Bye")
ALL = (SYSTEM, HELLO, HI, MORE, BYE)


@dataclass(frozen=True)
class Style:
    """A template, its special tokens, and how the conversation `ALL` looks in it."""

    template: str
    special: tuple[str, ...]
    bos: str | None
    eos: str
    pieces: tuple[str, ...]
    """Alternating: what is given, what is learned; the last piece is learned."""
    implicit_system: str = ""
    """What a conversation without a system message begins with besides."""


CHATML_LOOP = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_GIVEN = (
    "<|im_start|>system\nBrief<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\n"
)
CHATML_MORE = "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n"
DEFAULT_SYSTEM = "<|im_start|>system\nHelp.<|im_end|>\n"
LLAMA3_HEAD = "<|start_header_id|>{}<|end_header_id|>\n\n"
STYLES = {
    "ChatML": Style(
        CHATML_LOOP,
        ("<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        (CHATML_GIVEN, "Hi<|im_end|>", "\n" + CHATML_MORE, "Bye<|im_end|>"),
    ),
    "ChatML of a base model, which ends with another token": Style(
        CHATML_LOOP,
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        None,
        "<|endoftext|>",
        (CHATML_GIVEN, "Hi<|im_end|>\n", CHATML_MORE, "Bye<|im_end|>\n<|endoftext|>"),
    ),
    "ChatML that adds a system prompt": Style(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n{% endif %}"
        + CHATML_LOOP,
        ("<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        (CHATML_GIVEN, "Hi<|im_end|>", "\n" + CHATML_MORE, "Bye<|im_end|>"),
        implicit_system=DEFAULT_SYSTEM,
    ),
    "ChatML with generation markers": Style(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{{ '\\n' }}"
        "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        (CHATML_GIVEN, "Hi<|im_end|>", "\n" + CHATML_MORE, "Bye<|im_end|>"),
    ),
    "Llama 2": Style(
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] "
        "{% if loop.index0 == 1 and messages[0].role == 'system' %}<<SYS>>\n"
        "{{ messages[0].content }}\n<</SYS>>\n\n{% endif %}{{ m.content | trim }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content | trim }} {{ eos_token }}{% endif %}"
        "{% endfor %}",
        ("<s>", "</s>", "<unk>"),
        "<s>",
        "</s>",
        (
            "<s>[INST] <<SYS>>\nBrief\n<</SYS>>\n\nHello [/INST]",
            " Hi </s>",
            "<s>[INST] More [/INST]",
            " Bye </s>",
        ),
    ),
    "Llama 3": Style(
        "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<|start_header_id|>"
        "{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
        "{% endif %}",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>",
        "<|eot_id|>",
        (
            "<|begin_of_text|>"
            + LLAMA3_HEAD.format("system")
            + "Brief<|eot_id|>"
            + LLAMA3_HEAD.format("user")
            + "Hello<|eot_id|>"
            + LLAMA3_HEAD.format("assistant"),
            "Hi<|eot_id|>",
            LLAMA3_HEAD.format("user") + "More<|eot_id|>" + LLAMA3_HEAD.format("assistant"),
            "Bye<|eot_id|>",
        ),
    ),
}


@pytest.fixture(params=list(STYLES))
def style(request: pytest.FixtureRequest) -> Style:
    return STYLES[request.param]


@pytest.fixture
def tokenizer(style: Style, make_tokenizer: TokenizerFactory) -> PreTrainedTokenizerFast:
    roles = {"eos": style.eos} | ({"bos": style.bos} if style.bos else {})
    return make_tokenizer(*style.special, chat_template=style.template, **roles)


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    size = len(tokenizer) + 1
    return Encoder(tokenizer, choose_special_tokens(tokenizer, size, "spec.model.source"), size)


def pieces(
    tokenizer: PreTrainedTokenizerFast, tokens: list[int], mask: list[bool]
) -> tuple[str, ...]:
    """Return the texts of runs of tokens that are alike in being learned or not."""
    found: list[list[int]] = []
    for index, token in enumerate(tokens):
        if index and mask[index] == mask[index - 1]:
            found[-1].append(token)
        else:
            found.append([token])
    return tuple(tokenizer.decode(piece) for piece in found)


def test_every_answer_of_a_conversation_is_learned_with_its_end_and_nothing_else(
    style: Style, tokenizer: PreTrainedTokenizerFast, encoder: Encoder
) -> None:
    ((tokens, mask),) = encoder.demonstrations([Demonstration("f:1", (), ALL)])
    assert pieces(tokenizer, tokens, mask) == style.pieces
    assert not mask[0]


def test_answers_of_a_prompt_are_given_and_not_learned(
    style: Style, tokenizer: PreTrainedTokenizerFast, encoder: Encoder
) -> None:
    ((tokens, mask),) = encoder.demonstrations([Demonstration("f:1", ALL[:-1], ALL[-1:])])
    assert pieces(tokenizer, tokens, mask) == ("".join(style.pieces[:-1]), style.pieces[-1])


def test_what_ppo_continues_is_what_was_seen_before_the_answer(
    style: Style, tokenizer: PreTrainedTokenizerFast, encoder: Encoder
) -> None:
    ((prompt, text),) = encoder.prompts([Prompt("f:1", ALL[:-1])])
    assert tokenizer.decode(prompt) == text == "".join(style.pieces[:-1])
    other = (Message(Role.ASSISTANT, "No"),)
    ((chosen, rejected),) = encoder.pairs([Comparison("f:1", ALL[:-1], ALL[-1:], other)])
    assert chosen[: len(prompt)] == rejected[: len(prompt)] == prompt
    assert tokenizer.decode(chosen[len(prompt) :]) == style.pieces[-1]


def test_conversation_without_system_message_begins_as_the_template_wants(
    style: Style, tokenizer: PreTrainedTokenizerFast, encoder: Encoder
) -> None:
    ((tokens, mask),) = encoder.demonstrations([Demonstration("f:1", (), (HELLO, HI))])
    given, learned = pieces(tokenizer, tokens, mask)
    assert "Brief" not in given
    assert given.startswith((style.bos or "") + style.implicit_system)
    assert given.count("system") == (1 if style.implicit_system else 0)
    assert "Hello" in given
    assert learned.strip().startswith("Hi")
    assert tokens[-1] == tokenizer.eos_token_id
