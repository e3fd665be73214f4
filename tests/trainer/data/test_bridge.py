"""Text between two tokenizers: a policy of words, reward models of bytes with special tokens."""

from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.data.records import Message, Prompt, Role
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.errors import InvalidError

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]
CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
FRAME = {"bos": "<s>", "eos": "</s>", "pad": "<p>"}


@pytest.fixture
def policy() -> PreTrainedTokenizerFast:
    """Words with a mark for the space before them, as SentencePiece has."""
    words = ["<end>", "▁the", "▁film", "▁is", "▁good", "▁bad", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "."))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.fixture
def reward(make_tokenizer: TokenizerFactory) -> PreTrainedTokenizerFast:
    return make_tokenizer(*FRAME.values(), chat_template=CHATML, **FRAME)


def bridged(
    bridge: Bridge, reward: PreTrainedTokenizerFast, prompt: PromptTokens, *response: int
) -> str:
    (tokens,), _ = bridge.encode([prompt], [np.array(response)])
    text: str = reward.decode(tokens.tolist())
    return text


def make(
    policy: PreTrainedTokenizerFast,
    reward: PreTrainedTokenizerFast,
    *,
    maximum: int | None = None,
    ends: bool = True,
) -> Bridge:
    return Bridge(policy, reward, maximum_positions=maximum, ends_with_eos=ends)


PLAIN = PromptTokens(np.array([1, 2]), "the film")
TURNS = (Message(Role.SYSTEM, "Brief"), Message(Role.USER, "the film?"))
CHAT = PromptTokens(np.array([1, 2]), "whatever the policy's template makes of it", TURNS)


def test_plain_text_keeps_the_space_between_prompt_and_response(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    bridge = make(policy, reward)
    assert policy.decode([3, 4]) == "is good"  # the space is gone without its prompt
    assert bridged(bridge, reward, PLAIN, 3, 4, 0) == "the film is good</s>"


def test_plain_text_of_a_model_that_is_not_read_at_its_end_gets_no_end(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    assert bridged(make(policy, reward, ends=False), reward, PLAIN, 3, 4, 0) == "the film is good"


def test_plain_text_gets_the_special_tokens_of_the_reward_models_tokenizer(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    reward.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert bridged(make(policy, reward), reward, PLAIN, 3) == "<s>the film is</s>"


def test_conversation_is_rendered_with_the_reward_models_own_template(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    tokens = bridged(make(policy, reward), reward, CHAT, 3, 4, 0)
    assert tokens == ("<s>system\nBrief</s>\n<s>user\nthe film?</s>\n<s>assistant\nis good</s>\n")


def test_special_tokens_of_a_template_are_single_tokens(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    (tokens,), _ = make(policy, reward).encode([CHAT], [np.array([3])])
    assert tokens.tolist().count(reward.bos_token_id) == 3
    assert tokens.tolist().count(reward.eos_token_id) == 3


def test_what_is_too_long_loses_its_beginning_and_is_counted(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    bridge = make(policy, reward, maximum=12)
    prompts = [CHAT, PLAIN]
    (chat, plain), num_cut = bridge.encode(prompts, [np.array([3, 4]), np.array([4])])
    assert num_cut == 2
    assert reward.decode(chat.tolist()) == "<s>t\nis good</s>\n"  # BOS, then the last 11
    assert reward.decode(plain.tolist()) == "e film good</s>"
    assert bridge.encode([PLAIN], [np.array([6])])[1] == 0


def test_tokenizers_own_limit_counts_where_it_is_lower(
    policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast
) -> None:
    assert make(policy, reward).maximum_tokens == 10**6
    assert make(policy, reward, maximum=12).maximum_tokens == 12
    reward.model_max_length = 7
    assert make(policy, reward, maximum=12).maximum_tokens == 7


def test_prompt_that_the_template_refuses_names_its_record(
    policy: PreTrainedTokenizerFast, make_tokenizer: TokenizerFactory
) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    )
    reward = make_tokenizer(*FRAME.values(), chat_template=template, **FRAME)
    with pytest.raises(InvalidError) as caught:
        make(policy, reward).require_prompts([Prompt("p.jsonl:3", TURNS)], "spec.a", "'rm'")
    assert caught.value.message.startswith("p.jsonl:3=")
    assert "the chat template refuses it: no system here" in caught.value.message
