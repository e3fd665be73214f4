"""The three kinds of record that RLHF learns from, once validated.

How they are spelled in files is not known here.
"""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Text = str | tuple[Message, ...]
"""Plain text, or the turns of a conversation, which a chat template turns into text."""


class Choice(StrEnum):
    """Which side of a comparison one annotator prefers."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    TIE = "tie"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's choice."""

    annotator: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a policy should write: the completion, or the assistant's turns in it."""

    place: str
    prompt: Text
    """Empty for language modelling: the completion is the whole."""
    completion: Text


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt, the preferred one named."""

    place: str
    prompt: Text
    """Empty where plain-text responses came without a prompt."""
    chosen: Text
    rejected: Text
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What PPO samples responses to."""

    place: str
    prompt: Text


Record = Demonstration | Comparison | Prompt


def content(record: Record) -> Hashable:
    """Return what makes two records the same, wherever they stand and whatever annotators say."""
    match record:
        case Demonstration():
            return record.prompt, record.completion
        case Comparison():
            # The same two responses, whichever is preferred, are no test of what was trained.
            return record.prompt, frozenset((record.chosen, record.rejected))
        case Prompt():
            return record.prompt


def digest(parts: Sequence[Text]) -> int:
    """Return a 64-bit hash of `parts`, the same in every process and on every machine.

    Lengths go into the hash, so that no two different sequences of texts share their bytes.
    """
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        turns = [part] if isinstance(part, str) else [t for m in part for t in (m.role, m.content)]
        kind = "text" if isinstance(part, str) else "messages"
        state.update(f"{kind}:{len(turns)};".encode())
        for turn in turns:
            data = turn.encode()
            state.update(f"{len(data)}:".encode() + data)
    return int.from_bytes(state.digest(), "big")
