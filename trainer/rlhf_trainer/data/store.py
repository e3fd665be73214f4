"""Tokenised data sets on disk: flat arrays with offsets, memory-mapped when read.

A file holds all rows one after the other, a second one where each begins: no padding, no pickle,
and a rank reads only the rows it works on. A folder is there whole or not at all. What the tokens
are is decided elsewhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlhf_trainer.data.records import Message, Role, Text
from rlhf_trainer.files import write_folder

Tokens = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", np.int32, np.uint8)


@dataclass(frozen=True)
class Ragged(Generic[Scalar]):
    """Rows of uneven length in one flat array."""

    values: NDArray[Scalar]
    offsets: NDArray[np.int64]
    """Where each row begins, and where the last one ends: one more than there are rows."""

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | NDArray[np.generic]], dtype: type[Scalar]) -> Self:
        """Return `rows` as one flat array of `dtype`."""
        arrays: list[NDArray[Scalar]] = [np.asarray(row, dtype) for row in rows]
        offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, dtype), *arrays]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[Scalar]:
        if not 0 <= index < len(self):
            message = f"row {index} of {len(self)}"
            raise IndexError(message)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row."""
        return np.diff(self.offsets)

    def write(self, folder: Path, name: str) -> None:
        """Write two files into `folder`."""
        values, offsets = _files(folder, name)
        np.save(values, self.values, allow_pickle=False)
        np.save(offsets, self.offsets, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Map what `write` wrote; rows are loaded when they are asked for."""
        values, offsets = _files(folder, name)
        return cls(
            np.load(values, mmap_mode="r", allow_pickle=False),
            np.load(offsets, allow_pickle=False),
        )


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.npy", folder / f"{name}-offsets.npy"


@dataclass(frozen=True)
class DemonstrationTokens:
    """One demonstration."""

    tokens: Tokens
    response_mask: Mask
    """True where a token is the policy's to learn; never at the first, which nothing predicts."""


@dataclass(frozen=True)
class PairTokens:
    """One comparison: prompt and response, twice."""

    chosen: Tokens
    rejected: Tokens


@dataclass(frozen=True)
class PromptTokens:
    """One prompt, as tokens and as people and judges read it."""

    tokens: Tokens
    text: str
    turns: tuple[Message, ...] = ()
    """The conversation that `text` renders; empty if the prompt is plain text."""


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations, as tokens."""

    tokens: Ragged[np.int32]
    response_masks: Ragged[np.uint8]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> DemonstrationTokens:
        mask = np.array(self.response_masks[index], np.bool_)
        return DemonstrationTokens(_tokens(self.tokens[index]), mask)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each demonstration."""
        return self.tokens.lengths

    def write(self, folder: Path) -> None:
        """Write `folder` as a whole, in place of what may be there."""
        write_folder(
            folder,
            lambda target: _write_columns(
                target, {"tokens": self.tokens, "response-mask": self.response_masks}
            ),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Map what `write` wrote."""
        return cls(Ragged.read(folder, "tokens"), Ragged.read(folder, "response-mask"))


@dataclass(frozen=True)
class Pairs:
    """Comparisons, as tokens."""

    chosen: Ragged[np.int32]
    rejected: Ragged[np.int32]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> PairTokens:
        return PairTokens(_tokens(self.chosen[index]), _tokens(self.rejected[index]))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longer side of each pair."""
        return np.maximum(self.chosen.lengths, self.rejected.lengths)

    def write(self, folder: Path) -> None:
        """Write `folder` as a whole, in place of what may be there."""
        write_folder(
            folder,
            lambda target: _write_columns(
                target, {"chosen": self.chosen, "rejected": self.rejected}
            ),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Map what `write` wrote."""
        return cls(Ragged.read(folder, "chosen"), Ragged.read(folder, "rejected"))


@dataclass(frozen=True)
class Prompts:
    """Prompts, as tokens, as UTF-8, and their turns as JSON, empty for plain text."""

    tokens: Ragged[np.int32]
    texts: Ragged[np.uint8]
    turns: Ragged[np.uint8]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> PromptTokens:
        text = self.texts[index].tobytes().decode()
        turns = decode_turns(self.turns[index].tobytes())
        return PromptTokens(_tokens(self.tokens[index]), text, turns)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt."""
        return self.tokens.lengths

    def write(self, folder: Path) -> None:
        """Write `folder` as a whole, in place of what may be there."""
        write_folder(
            folder,
            lambda target: _write_columns(
                target, {"tokens": self.tokens, "texts": self.texts, "turns": self.turns}
            ),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Map what `write` wrote."""
        tokens: Ragged[np.int32] = Ragged.read(folder, "tokens")
        return cls(tokens, Ragged.read(folder, "texts"), Ragged.read(folder, "turns"))


def encode_turns(prompt: Text) -> bytes:
    """Return the turns of a conversation as JSON; nothing for plain text."""
    if isinstance(prompt, str):
        return b""
    return json.dumps([[turn.role, turn.content] for turn in prompt]).encode()


def decode_turns(data: bytes) -> tuple[Message, ...]:
    """Return what `encode_turns` was given; nothing for plain text."""
    turns = json.loads(data) if data else []
    return tuple(Message(Role(role), content) for role, content in turns)


def _tokens(row: NDArray[np.int32]) -> Tokens:
    """Return a copy in memory: torch warns of arrays that it must not write through."""
    return np.array(row, np.int64)


def _write_columns(
    folder: Path, columns: Mapping[str, Ragged[np.int32] | Ragged[np.uint8]]
) -> None:
    def write(target: Path) -> None:
        for name, column in columns.items():
            column.write(target, name)

    write_folder(folder, write)
