"""Which tokens begin, end and fill a sequence.

The end must be a token of its own: were padding the same token, a response's end could not be told
from what fills its row, and a policy would never learn to stop. In this project masks come from
lengths, never from the padding token; a distinct one is chosen all the same, for whoever loads the
exported tokenizer and masks by it.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_trainer.errors import InvalidError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW_PAD_TOKEN = "<pad>"  # noqa: S105 - a token of text, no secret
_UNUSED = re.compile(r"pad|reserved|unused", re.IGNORECASE)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that frame sequences."""

    bos: int | None
    """Begins every sequence; None if the tokenizer has none."""
    eos: int
    """Ends every response."""
    pad: int
    """Fills rows; never `eos`."""


def choose_special_tokens(
    tokenizer: "PreTrainedTokenizerBase", vocabulary_size: int, setting: str
) -> SpecialTokens:
    """Return the special tokens of `tokenizer`; where it pads with EOS or not at all, change that.

    In order of preference: the tokenizer's own PAD, a special token that is reserved or unused, UNK
    (as is usual with Llama 2), a new token if the model's embedding has a row to spare. Failing
    all, the first id that is not EOS: it is an ordinary token, so the tokenizer itself is left as
    it is.

    vocabulary_size: rows of the model's embedding. `setting` is the model's place in the manifest.

    Raises:
        InvalidError: there is no EOS, or a special token lies outside the vocabulary.
    """
    bos, eos = _single(tokenizer.bos_token_id), _single(tokenizer.eos_token_id)
    if eos is None:
        raise InvalidError(
            setting,
            repr(tokenizer.name_or_path),
            "its tokenizer has no end-of-sequence token, so that no response can end",
            "set eos_token in its tokenizer_config.json",
        )
    for name, token in (("bos_token", bos), ("eos_token", eos)):
        if token is not None and token >= vocabulary_size:
            raise outside_vocabulary(f"{setting} {name}", token, vocabulary_size)
    return SpecialTokens(bos, eos, _choose_pad(tokenizer, vocabulary_size, {bos, eos}))


def outside_vocabulary(place: str, token: int, vocabulary_size: int) -> InvalidError:
    """Return the error about a token that the model's embedding has no row for."""
    return InvalidError(
        place,
        token,
        f"is no token of the model, whose vocabulary has {vocabulary_size}",
        "use the tokenizer that belongs to the model",
    )


def _single(token: int | list[int] | None) -> int | None:
    return token[0] if isinstance(token, list) else token


def _choose_pad(
    tokenizer: "PreTrainedTokenizerBase", vocabulary_size: int, taken: set[int | None]
) -> int:
    own, unk = _single(tokenizer.pad_token_id), _single(tokenizer.unk_token_id)
    special = sorted(
        (not _UNUSED.search(token.content), index)
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and (index == unk or _UNUSED.search(token.content))
    )
    for index in (own, *(index for _, index in special)):
        if index is not None and index not in taken and index < vocabulary_size:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(index)
            return index
    if len(tokenizer) < vocabulary_size:
        tokenizer.add_special_tokens({"pad_token": NEW_PAD_TOKEN})
        return int(tokenizer.get_vocab()[NEW_PAD_TOKEN])
    return min({0, 1, 2} - taken)
