"""Conversations as text: the tokenizer's chat template, and which parts of it the assistant writes.

Decided here: a prompt is rendered with the header that asks for an answer, and an answer is what
rendering the conversation one message further adds. So prompts of PPO are exact beginnings of what
SFT and the reward model saw; a template that renders earlier turns differently once an answer
follows is refused. Imports no transformers: the tokenizer is passed in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rlhf_trainer.data.problems import shortened
from rlhf_trainer.data.records import Message, Role
from rlhf_trainer.errors import InvalidError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text that is tokenised by itself."""

    text: str
    is_response: bool
    """Whether the policy is to write it."""


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @property
    def marks_answers(self) -> bool:
        """Whether the template itself says what the assistant writes (`{% generation %}`)."""
        if not self._tokenizer.chat_template or not self._tokenizer.is_fast:
            return False
        return _GENERATION.search(self._tokenizer.get_chat_template()) is not None

    def prompt(self, messages: Sequence[Message], place: str) -> str:
        """Return a conversation up to and with the header of the assistant's answer.

        Raises:
            InvalidError: there is no template, or it refuses the conversation.
        """
        return self._render(messages, place, ask=True)

    def whole(self, messages: Sequence[Message], place: str) -> str:
        """Return a conversation that ends with its last message.

        Raises:
            InvalidError: there is no template, or it refuses the conversation.
        """
        return self._render(messages, place, ask=False)

    def segments(
        self, prompt: Sequence[Message], completion: Sequence[Message], place: str
    ) -> list[Segment]:
        """Return the conversation up to its last answer, with the answers of `completion` marked.

        Raises:
            InvalidError: there is no template, it refuses the conversation, or it rewrites earlier
            turns.
        """
        turns = (*prompt, *completion)
        segments: list[Segment] = []
        rendered = ""
        for index in range(len(prompt), len(turns)):
            if turns[index].role is Role.ASSISTANT:
                asked = self._render(turns[:index], place, ask=True)
                answered = self._render(turns[: index + 1], place, ask=False)
                _require_beginning(place, rendered, asked)
                _require_beginning(place, asked, answered)
                segments.append(Segment(asked[len(rendered) :], is_response=False))
                segments += self._answer(answered[len(asked) :])
                rendered = answered
        while segments and not segments[-1].is_response:
            segments.pop()
        return segments

    def masked_tokens(self, messages: Sequence[Message], place: str) -> tuple[list[int], list[int]]:
        """Return a conversation's tokens, and 1 where the template says that the assistant writes.

        Raises:
            InvalidError: the template refuses the conversation.
        """
        encoded = self._apply(messages, place, return_dict=True, return_assistant_tokens_mask=True)
        return encoded["input_ids"], encoded["assistant_masks"]

    def _answer(self, text: str) -> list[Segment]:
        """Split what follows the end-of-sequence token off: the policy stops there."""
        eos = str(self._tokenizer.eos_token)
        head, found, tail = text.rpartition(eos)
        if not found or tail.strip():
            return [Segment(text, is_response=True)]
        return [Segment(head + eos, is_response=True), Segment(tail, is_response=False)]

    def _render(self, messages: Sequence[Message], place: str, *, ask: bool) -> str:
        rendered: str = self._apply(messages, place, tokenize=False, add_generation_prompt=ask)
        return rendered

    def _apply(self, messages: Sequence[Message], place: str, **options: bool) -> Any:  # noqa: ANN401 - text or an encoding, by options
        from jinja2 import TemplateError  # noqa: PLC0415 - plain text needs none of it

        if not self._tokenizer.chat_template:
            raise InvalidError(
                place,
                shortened([message.role.value for message in messages]),
                "is conversational, and the model's tokenizer has no chat template",
                "write the records as text, or put a chat_template.jinja into the model's folder",
            )
        turns = [{"role": message.role.value, "content": message.content} for message in messages]
        apply: Any = self._tokenizer.apply_chat_template
        try:
            return apply(turns, **options)
        except TemplateError as error:
            raise InvalidError(
                place,
                shortened([message.role.value for message in messages]),
                f"the chat template refuses it: {error}",
                "write the turns as the template wants them",
            ) from error


def _require_beginning(place: str, shorter: str, longer: str) -> None:
    """Refuse a conversation whose rendering changes where only a turn was added."""
    if not longer.startswith(shorter):
        pairs = zip(shorter, longer, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        raise InvalidError(
            place,
            shortened(shorter[common:]),
            "the chat template renders this otherwise once another turn follows: "
            f"{shortened(longer[common:])}",
            "use a template whose prompts are beginnings of conversations",
        )
