from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from rlhf_trainer.data.encoding import Encoder, Marked
from rlhf_trainer.data.records import Comparison, Demonstration, Message, Prompt, Role, Text
from rlhf_trainer.data.special_tokens import choose_special_tokens
from rlhf_trainer.errors import InvalidError

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]

HELLO = Message(Role.USER, "Hello")
MORE = Message(Role.USER, "More")
HI = Message(Role.ASSISTANT, "Hi")
BYE = Message(Role.ASSISTANT, "Bye")


def encoder_of(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    special = choose_special_tokens(tokenizer, len(tokenizer), "spec.model.source")
    return Encoder(tokenizer, special, len(tokenizer))


def read(tokenizer: PreTrainedTokenizerFast, marked: Marked) -> tuple[str, str]:
    """Return the whole and the response as text."""
    tokens, mask = marked
    assert len(tokens) == len(mask)
    response = [token for token, mark in zip(tokens, mask, strict=True) if mark]
    return tokenizer.decode(tokens), tokenizer.decode(response)


DEMONSTRATIONS = [
    pytest.param("", "a story", "<bos>a story<eos>", "a story<eos>", id="text"),
    pytest.param("Say:", " hi", "<bos>Say: hi<eos>", " hi<eos>", id="prompt-completion"),
    pytest.param("", "hi<eos>", "<bos>hi<eos>", "hi<eos>", id="EOS is not doubled"),
    pytest.param("<bos>Say:", " hi", "<bos>Say: hi<eos>", " hi<eos>", id="BOS is not doubled"),
    pytest.param("", "<bos>hi", "<bos>hi<eos>", "hi<eos>", id="BOS in the response is framing"),
    pytest.param(
        (HELLO,),
        (HI,),
        "<bos><|user|>Hello<eos>\n<|assistant|>Hi<eos>",
        "Hi<eos>",
        id="conversational prompt-completion",
    ),
    pytest.param(
        (),
        (HELLO, HI, MORE, BYE),
        "<bos><|user|>Hello<eos>\n<|assistant|>Hi<eos>\n<|user|>More<eos>\n<|assistant|>Bye<eos>",
        "Hi<eos>Bye<eos>",
        id="conversation",
    ),
    pytest.param(
        (),
        (HELLO, HI, MORE),
        "<bos><|user|>Hello<eos>\n<|assistant|>Hi<eos>",
        "Hi<eos>",
        id="conversation that ends with a question",
    ),
]


@pytest.mark.parametrize("fixture", ["tokenizer", "marking_tokenizer"])
@pytest.mark.parametrize(("prompt", "completion", "whole", "response"), DEMONSTRATIONS)
def test_demonstration_is_framed_and_its_response_marked(
    request: pytest.FixtureRequest,
    fixture: str,
    prompt: Text,
    completion: Text,
    whole: str,
    response: str,
) -> None:
    tokenizer: PreTrainedTokenizerFast = request.getfixturevalue(fixture)
    (marked,) = encoder_of(tokenizer).demonstrations([Demonstration("f:1", prompt, completion)])
    assert read(tokenizer, marked) == (whole, response)


def test_demonstrations_keep_their_order(marking_tokenizer: PreTrainedTokenizerFast) -> None:
    records = [
        Demonstration("f:1", (), (HELLO, HI)),
        Demonstration("f:2", (HELLO,), (BYE,)),
        Demonstration("f:3", (), (HELLO, BYE)),
    ]
    marked = encoder_of(marking_tokenizer).demonstrations(records)
    assert [read(marking_tokenizer, item)[1] for item in marked] == [
        "Hi<eos>",
        "Bye<eos>",
        "Bye<eos>",
    ]


def test_template_that_marks_nothing_leaves_no_response(make_tokenizer: TokenizerFactory) -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% generation %}{% endgeneration %}"
    )
    tokenizer = make_tokenizer("<eos>", eos="<eos>", chat_template=template)
    ((_, mask),) = encoder_of(tokenizer).demonstrations([Demonstration("f:1", (), (HELLO, HI))])
    assert not any(mask)


def test_first_token_without_bos_is_never_response(make_tokenizer: TokenizerFactory) -> None:
    tokenizer = make_tokenizer("<eos>", eos="<eos>")
    (marked,) = encoder_of(tokenizer).demonstrations([Demonstration("f:1", "", "hi")])
    assert read(tokenizer, marked) == ("hi<eos>", "i<eos>")


def test_prompt_tokens_begin_every_sequence_of_the_prompt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    encoder = encoder_of(tokenizer)
    # "a" and "b" merge where they are tokenised together
    assert len(tokenizer("ab", add_special_tokens=False)["input_ids"]) == 1
    ((prompt, _),) = encoder.prompts([Prompt("f:1", "a")])
    ((chosen, rejected),) = encoder.pairs([Comparison("f:1", "a", "b", "c")])
    ((demonstration, mask),) = encoder.demonstrations([Demonstration("f:1", "a", "b")])
    for sequence in (chosen, rejected, demonstration):
        assert sequence[: len(prompt)] == prompt
    assert mask == [False] * len(prompt) + [True, True]


def test_conversational_prompt_begins_its_responses(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer)
    ((prompt, text),) = encoder.prompts([Prompt("f:1", (HELLO,))])
    assert text == "<bos><|user|>Hello<eos>\n<|assistant|>"
    assert tokenizer.decode(prompt) == text
    ((chosen, rejected),) = encoder.pairs([Comparison("f:1", (HELLO,), (HI,), (BYE,))])
    assert chosen[: len(prompt)] == rejected[: len(prompt)] == prompt
    assert tokenizer.decode(chosen[len(prompt) :]) == "Hi<eos>"
    assert tokenizer.decode(rejected[len(prompt) :]) == "Bye<eos>"


def test_pairs_without_prompt_begin_with_bos(tokenizer: PreTrainedTokenizerFast) -> None:
    pairs = encoder_of(tokenizer).pairs(
        [Comparison("f:1", "", "one", "two"), Comparison("f:2", "", "three", "four")]
    )
    assert [tuple(tokenizer.decode(side) for side in pair) for pair in pairs] == [
        ("<bos>one<eos>", "<bos>two<eos>"),
        ("<bos>three<eos>", "<bos>four<eos>"),
    ]


def test_text_prompt_keeps_its_text(tokenizer: PreTrainedTokenizerFast) -> None:
    ((tokens, text),) = encoder_of(tokenizer).prompts([Prompt("f:1", "Once")])
    assert tokenizer.decode(tokens) == "<bos>Once"
    assert text == "Once"


def test_nothing_gives_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer)
    assert encoder.demonstrations([]) == []
    assert encoder.pairs([]) == []
    assert encoder.prompts([]) == []


def test_text_longer_than_the_models_context_is_no_warning(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.model_max_length = 4
    logging.enable_propagation()
    try:
        ((tokens, _),) = encoder_of(tokenizer).prompts([Prompt("f:1", "longer than that")])
    finally:
        logging.disable_propagation()
    assert len(tokens) == 17
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["demonstrations", "pairs", "prompts"])
def test_token_outside_the_vocabulary_names_the_record(
    tokenizer: PreTrainedTokenizerFast, kind: str
) -> None:
    special = choose_special_tokens(tokenizer, len(tokenizer), "spec.model.source")
    encoder = Encoder(tokenizer, special, vocabulary_size=len(tokenizer) - 1)
    records = {
        "demonstrations": Demonstration("f:3", "", "ab"),
        "pairs": Comparison("f:3", "", "x", "ab"),
        "prompts": Prompt("f:3", "ab"),
    }
    with pytest.raises(InvalidError) as caught:
        getattr(encoder, kind)([records[kind]])
    assert caught.value.message == (
        "f:3 token=259: is no token of the model, whose vocabulary has 259; "
        "use the tokenizer that belongs to the model"
    )
