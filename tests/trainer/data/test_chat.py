from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.data.chat import ChatTemplate, Segment
from rlhf_trainer.data.records import Message, Role
from rlhf_trainer.errors import InvalidError

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]

SYSTEM = Message(Role.SYSTEM, "Brief")
HELLO = Message(Role.USER, "Hello")
MORE = Message(Role.USER, "More")
HI = Message(Role.ASSISTANT, "Hi")
BYE = Message(Role.ASSISTANT, "Bye")


def test_prompt_ends_with_the_header_of_the_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = ChatTemplate(tokenizer).prompt((SYSTEM, HELLO), "f:1")
    assert rendered == "<bos><|system|>Brief<eos>\n<|user|>Hello<eos>\n<|assistant|>"


@pytest.mark.parametrize(
    ("prompt", "completion", "segments"),
    [
        pytest.param(
            (HELLO,),
            (HI,),
            [("<bos><|user|>Hello<eos>\n<|assistant|>", False), ("Hi<eos>", True)],
            id="one answer, cut at EOS",
        ),
        pytest.param(
            (),
            (HELLO, HI, MORE, BYE),
            [
                ("<bos><|user|>Hello<eos>\n<|assistant|>", False),
                ("Hi<eos>", True),
                ("\n", False),
                ("<|user|>More<eos>\n<|assistant|>", False),
                ("Bye<eos>", True),
            ],
            id="several answers",
        ),
        pytest.param(
            (HELLO, HI, MORE),
            (BYE,),
            [
                (
                    "<bos><|user|>Hello<eos>\n<|assistant|>Hi<eos>\n<|user|>More<eos>\n<|assistant|>",
                    False,
                ),
                ("Bye<eos>", True),
            ],
            id="answers of the prompt are not marked",
        ),
        pytest.param(
            (),
            (HELLO, HI, MORE),
            [("<bos><|user|>Hello<eos>\n<|assistant|>", False), ("Hi<eos>", True)],
            id="what follows the last answer is left out",
        ),
    ],
)
def test_segments_mark_what_the_assistant_writes(
    tokenizer: PreTrainedTokenizerFast,
    prompt: tuple[Message, ...],
    completion: tuple[Message, ...],
    segments: list[tuple[str, bool]],
) -> None:
    assert ChatTemplate(tokenizer).segments(prompt, completion, "f:1") == [
        Segment(*segment) for segment in segments
    ]


def test_segments_of_a_template_without_eos_keep_the_whole_answer(
    make_tokenizer: TokenizerFactory,
) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer = make_tokenizer("<eos>", eos="<eos>", chat_template=template)
    assert ChatTemplate(tokenizer).segments((HELLO,), (HI,), "f:1") == [
        Segment("user: Hello\n", is_response=False),
        Segment("assistant: Hi\n", is_response=True),
    ]


def test_template_that_rewrites_the_prompt_is_refused(make_tokenizer: TokenizerFactory) -> None:
    template = (
        "{% for m in messages %}{{ '>' if loop.last else '-' }} {{ m.content }}\n{% endfor %}"
    )
    tokenizer = make_tokenizer("<eos>", eos="<eos>", chat_template=template)
    with pytest.raises(InvalidError) as caught:
        ChatTemplate(tokenizer).segments((HELLO,), (HI,), "f:1")
    assert caught.value.message == (
        r"f:1='> Hello\n': the chat template renders this otherwise once another turn follows: "
        r"'- Hello\n> Hi\n'; use a template whose prompts are beginnings of conversations"
    )


def test_template_that_rewrites_earlier_answers_is_refused(
    make_tokenizer: TokenizerFactory,
) -> None:
    # as templates do that drop the reasoning of earlier answers
    template = (
        "{% for m in messages %}{{ m.role }}: "
        "{{ m.content if loop.last or m.role == 'user' else '-' }}\n{% endfor %}"
    )
    tokenizer = make_tokenizer("<eos>", eos="<eos>", chat_template=template)
    with pytest.raises(InvalidError) as caught:
        ChatTemplate(tokenizer).segments((), (HELLO, HI, MORE, BYE), "f:1")
    assert caught.value.message == (
        r"f:1='Hi\n': the chat template renders this otherwise once another turn follows: "
        r"'-\nuser: More\n'; use a template whose prompts are beginnings of conversations"
    )


def test_eos_within_an_answer_cuts_nothing(make_tokenizer: TokenizerFactory) -> None:
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer = make_tokenizer("<eos>", eos="<eos>", chat_template=template)
    answer = Message(Role.ASSISTANT, "Hi<eos>there")
    assert ChatTemplate(tokenizer).segments((HELLO,), (answer,), "f:1") == [
        Segment("Hello\n", is_response=False),
        Segment("Hi<eos>there\n", is_response=True),
    ]


def test_missing_template_names_the_fix(make_tokenizer: TokenizerFactory) -> None:
    chat = ChatTemplate(make_tokenizer("<eos>", eos="<eos>"))
    assert not chat.marks_answers
    with pytest.raises(InvalidError) as caught:
        chat.prompt((SYSTEM, HELLO), "f:1")
    assert caught.value.message == (
        "f:1=['system', 'user']: is conversational, and the model's tokenizer has no chat "
        "template; "
        "write the records as text, or put a chat_template.jinja into the model's folder"
    )


def test_conversation_that_the_template_refuses_names_the_record(
    make_tokenizer: TokenizerFactory,
) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    )
    chat = ChatTemplate(make_tokenizer("<eos>", eos="<eos>", chat_template=template))
    with pytest.raises(InvalidError) as caught:
        chat.prompt((SYSTEM, HELLO), "f:1")
    assert caught.value.message == (
        "f:1=['system', 'user']: the chat template refuses it: no system here; "
        "write the turns as the template wants them"
    )


def test_marks_answers_only_if_the_template_does(
    tokenizer: PreTrainedTokenizerFast, marking_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert not ChatTemplate(tokenizer).marks_answers
    assert ChatTemplate(marking_tokenizer).marks_answers


def test_masked_tokens_are_those_that_the_template_marks(
    marking_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokens, mask = ChatTemplate(marking_tokenizer).masked_tokens((HELLO, HI, MORE, BYE), "f:1")
    marked = [token for token, mark in zip(tokens, mask, strict=True) if mark]
    assert marking_tokenizer.decode(marked) == "HiBye"
