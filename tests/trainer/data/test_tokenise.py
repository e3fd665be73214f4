from collections.abc import Callable

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.data import tokenise
from rlhf_trainer.data.encoding import Encoder
from rlhf_trainer.data.records import Comparison, Demonstration, Message, Prompt, Role
from rlhf_trainer.data.special_tokens import choose_special_tokens
from rlhf_trainer.data.tokenise import (
    tokenise_comparisons,
    tokenise_demonstrations,
    tokenise_prompts,
)
from rlhf_trainer.errors import InvalidError

HELLO = Message(Role.USER, "Hello")
HI = Message(Role.ASSISTANT, "Hi")


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    special = choose_special_tokens(tokenizer, len(tokenizer), "spec.model.source")
    return Encoder(tokenizer, special, len(tokenizer))


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that grows by each heartbeat; chunks have two records."""
    monkeypatch.setattr(tokenise, "CHUNK_RECORDS", 2)
    return []


def test_demonstration_over_the_limit_loses_its_end_and_its_eos(
    encoder: Encoder, tokenizer: PreTrainedTokenizerFast, beats: list[None]
) -> None:
    records = [
        Demonstration("f:1", "", "1234"),  # 6 tokens with BOS and EOS
        Demonstration("f:2", "", "12345"),
        Demonstration("f:3", "12", "34567"),
    ]
    result = tokenise_demonstrations(encoder, records, 6, lambda: beats.append(None))
    rows = [result.data[index] for index in range(3)]
    assert [tokenizer.decode(row.tokens) for row in rows] == [
        "<bos>1234<eos>",
        "<bos>12345",
        "<bos>12345",
    ]
    assert [tokenizer.decode(row.tokens[row.response_mask]) for row in rows] == [
        "1234<eos>",
        "12345",
        "345",
    ]
    assert result.notes == {"truncated": 2, "leftOutWithoutResponse": 0}
    assert len(beats) == 2


def test_demonstration_whose_prompt_fills_the_limit_is_left_out(encoder: Encoder) -> None:
    records = [Demonstration("f:1", "12345", "6"), Demonstration("f:2", "1234", "5")]
    result = tokenise_demonstrations(encoder, records, 6, lambda: None)
    assert len(result.data) == 1
    assert result.notes == {"truncated": 1, "leftOutWithoutResponse": 1}


def test_pair_with_a_side_over_the_limit_is_left_out(
    encoder: Encoder, tokenizer: PreTrainedTokenizerFast, beats: list[None]
) -> None:
    records = [
        Comparison("f:1", "", "1234", "1"),
        Comparison("f:2", "", "1", "12345"),
        Comparison("f:3", "", "12345", "1"),
        Comparison("f:4", "12", "34", "5"),
    ]
    result = tokenise_comparisons(encoder, records, 6, lambda: beats.append(None))
    pairs = [result.data[index] for index in range(len(result.data))]
    assert [(tokenizer.decode(p.chosen), tokenizer.decode(p.rejected)) for p in pairs] == [
        ("<bos>1234<eos>", "<bos>1<eos>"),
        ("<bos>1234<eos>", "<bos>125<eos>"),
    ]
    assert result.notes == {"leftOutTooLong": 2, "leftOutAlike": 0}
    assert len(beats) == 2


def test_pair_of_equal_tokens_is_left_out(encoder: Encoder) -> None:
    records = [Comparison("f:1", "", "1", "1<eos>"), Comparison("f:2", "", "1", "2")]
    result = tokenise_comparisons(encoder, records, 6, lambda: None)
    assert len(result.data) == 1
    assert result.notes == {"leftOutTooLong": 0, "leftOutAlike": 1}


def test_prompts_keep_tokens_and_text(
    encoder: Encoder, tokenizer: PreTrainedTokenizerFast, beats: list[None]
) -> None:
    records = [Prompt("f:1", "Once 🙂"), Prompt("f:2", "Twice"), Prompt("f:3", "Thrice")]
    result = tokenise_prompts(encoder, records, 16, lambda: beats.append(None))
    items = [result.data[index] for index in range(3)]
    assert [item.text for item in items] == ["Once 🙂", "Twice", "Thrice"]
    assert [tokenizer.decode(item.tokens) for item in items] == [
        "<bos>Once 🙂",
        "<bos>Twice",
        "<bos>Thrice",
    ]
    assert len(beats) == 2


def test_conversational_prompt_keeps_its_rendered_text(encoder: Encoder) -> None:
    result = tokenise_prompts(encoder, [Prompt("f:1", (HELLO,))], 64, lambda: None)
    assert result.data[0].text == "<bos><|user|>Hello<eos>\n<|assistant|>"


def test_prompts_over_the_limit_are_refused_by_name(encoder: Encoder) -> None:
    records = [Prompt("f:1", "12345"), Prompt("f:2", "123456"), Prompt("f:7", "1234567")]
    with pytest.raises(InvalidError) as caught:
        tokenise_prompts(encoder, records, 6, lambda: None)
    assert caught.value.message.splitlines() == [
        (
            "f:2 prompt='123456': has 7 tokens, more than spec.data.prompts.maximumTokens=6; "
            "shorten or remove the prompt, or raise the limit"
        ),
        (
            "f:7 prompt='1234567': has 8 tokens, more than spec.data.prompts.maximumTokens=6; "
            "shorten or remove the prompt, or raise the limit"
        ),
    ]


def test_prompt_without_any_token_is_refused(
    make_tokenizer: Callable[..., PreTrainedTokenizerFast],
) -> None:
    tokenizer = make_tokenizer("<eos>", eos="<eos>")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("!", "")
    special = choose_special_tokens(tokenizer, len(tokenizer), "spec.model.source")
    encoder = Encoder(tokenizer, special, len(tokenizer))
    with pytest.raises(InvalidError) as caught:
        tokenise_prompts(encoder, [Prompt("f:1", "!!")], 6, lambda: None)
    assert caught.value.message == (
        "f:1 prompt='!!': has no tokens to begin with; remove the record"
    )


def test_summary_counts_rows_and_tokens(encoder: Encoder) -> None:
    records = [Demonstration("f:1", "", "1234"), Demonstration("f:2", "", "1")]
    assert tokenise_demonstrations(encoder, records, 5, lambda: None).summary() == {
        "count": 2,
        "tokens": 8,
        "meanTokens": 4.0,
        "longestTokens": 5,
        "truncated": 1,
        "leftOutWithoutResponse": 0,
    }


def test_summary_of_nothing_has_no_mean(encoder: Encoder) -> None:
    summary = tokenise_prompts(encoder, [], 5, lambda: None).summary()
    assert summary == {"count": 0, "tokens": 0, "meanTokens": 0.0, "longestTokens": 0}
