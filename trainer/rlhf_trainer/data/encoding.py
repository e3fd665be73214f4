"""From records to token ids, one way for all phases.

Decided here: text begins with BOS if there is one, a response ends with EOS, neither is doubled
where the text already spells it, and prompt and response are tokenised apart, so that a prompt's
tokens are the beginning of every sequence it starts: what PPO continues is what SFT and the reward
model saw. Conversations get their framing from the chat template. Limits on length are decided
elsewhere.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from rlhf_trainer.data.chat import ChatTemplate, Segment
from rlhf_trainer.data.records import Comparison, Demonstration, Message, Prompt, Text
from rlhf_trainer.data.special_tokens import SpecialTokens, outside_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Marked = tuple[list[int], list[bool]]
"""Token ids, and which of them are response."""


class Encoder:
    """Turns records into token ids."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", special: SpecialTokens, vocabulary_size: int
    ) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._vocabulary_size = vocabulary_size
        self._chat = ChatTemplate(tokenizer)

    def demonstrations(self, records: Sequence[Demonstration]) -> list[Marked]:
        """Return tokens and response masks; of whole conversations by the template, if it marks.

        Raises:
            InvalidError: a record cannot be rendered, or a token lies outside the vocabulary.
        """
        by_template = {
            index: self._masked(record.completion, record.place)
            for index, record in enumerate(records)
            if isinstance(record.completion, tuple)
            and not record.prompt
            and self._chat.marks_answers
        }
        rest = [record for index, record in enumerate(records) if index not in by_template]
        others = iter(self._encode([(item.prompt, item.completion, item.place) for item in rest]))
        return [by_template.get(index) or next(others) for index in range(len(records))]

    def pairs(self, records: Sequence[Comparison]) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of prompt and response, chosen and rejected.

        Raises:
            InvalidError: a record cannot be rendered, or a token lies outside the vocabulary.
        """
        both = [
            (record.prompt, response, record.place)
            for record in records
            for response in (record.chosen, record.rejected)
        ]
        tokens = [tokens for tokens, _ in self._encode(both)]
        return list(zip(tokens[::2], tokens[1::2], strict=True))

    def prompts(self, records: Sequence[Prompt]) -> list[tuple[list[int], str]]:
        """Return each prompt's tokens and its text, which is rendered if it is a conversation.

        Raises:
            InvalidError: a record cannot be rendered, or a token lies outside the vocabulary.
        """
        texts = [
            record.prompt
            if isinstance(record.prompt, str)
            else self._chat.prompt(record.prompt, record.place)
            for record in records
        ]
        encoded = self._tokens(texts)
        for record, tokens in zip(records, encoded, strict=True):
            if isinstance(record.prompt, str):
                self._begin(tokens)
            self._check(tokens, record.place)
        return list(zip(encoded, texts, strict=True))

    def _encode(self, items: Sequence[tuple[Text, Text, str]]) -> list[Marked]:
        """Encode (prompt, response, place) triples."""
        segments = [self._segments(prompt, response, place) for prompt, response, place in items]
        pieces = iter(self._tokens([segment.text for parts in segments for segment in parts]))
        encoded = []
        for parts, (_, response, place) in zip(segments, items, strict=True):
            tokens: list[int] = []
            mask: list[bool] = []
            for part, piece in zip(parts, islice(pieces, len(parts)), strict=True):
                tokens += piece
                mask += [part.is_response] * len(piece)
            if isinstance(response, str) and self._begin(tokens):
                mask.insert(0, False)
            encoded.append(self._finish(tokens, mask, place))
        return encoded

    def _segments(self, prompt: Text, response: Text, place: str) -> list[Segment]:
        if isinstance(prompt, tuple) and isinstance(response, tuple):
            return self._chat.segments(prompt, response, place)
        return [Segment(str(prompt), is_response=False), Segment(str(response), is_response=True)]

    def _masked(self, messages: tuple[Message, ...], place: str) -> Marked:
        tokens, marks = self._chat.masked_tokens(messages, place)
        mask = [bool(mark) for mark in marks]
        for index in range(1, len(tokens)):
            # templates differ in whether they count the end of an answer as the assistant's
            if mask[index - 1] and tokens[index] == self._special.eos:
                mask[index] = True
        end = max((index + 1 for index, marked in enumerate(mask) if marked), default=0)
        return self._finish(tokens[:end], mask[:end], place)

    def _begin(self, tokens: list[int]) -> bool:
        """Put BOS first, in place; return whether it was not there."""
        bos = self._special.bos
        if bos is None or tokens[:1] == [bos]:
            return False
        tokens.insert(0, bos)
        return True

    def _finish(self, tokens: list[int], mask: list[bool], place: str) -> Marked:
        """End the response with EOS; the first token is never response, as nothing predicts it."""
        if tokens[-1:] != [self._special.eos]:
            tokens, mask = [*tokens, self._special.eos], [*mask, True]
        self._check(tokens, place)
        return tokens, [False, *mask[1:]]

    def _check(self, tokens: Iterable[int], place: str) -> None:
        largest = max(tokens, default=0)
        if largest >= self._vocabulary_size:
            raise outside_vocabulary(f"{place} token", largest, self._vocabulary_size)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens
