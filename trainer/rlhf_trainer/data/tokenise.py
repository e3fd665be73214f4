"""From validated records to token sets: what is shortened, what is left out, what is refused.

Decided here, and counted: a demonstration over the limit loses its end (and has no EOS then), one
that has no response token left is left out; so is a pair with a side over the limit, as half an
answer says nothing about preference, and a pair whose sides have the same tokens. A prompt over the
limit is an error: PPO would sample from a question cut short. How records become tokens is decided
elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlhf_trainer.data.encoding import Encoder
from rlhf_trainer.data.formats import R
from rlhf_trainer.data.problems import Problem, Problems, invalid, shortened
from rlhf_trainer.data.records import Comparison, Demonstration, Prompt
from rlhf_trainer.data.store import Demonstrations, Pairs, Prompts, Ragged, encode_turns

CHUNK_RECORDS = 512
"""Records tokenised at a time: enough for the tokenizer's threads, with a heartbeat between."""

Heartbeat = Callable[[], None]
Row = NDArray[np.int32]
D = TypeVar("D", Demonstrations, Pairs, Prompts)


@dataclass(frozen=True)
class Tokenised(Generic[D]):
    """One tokenised set, and what became of records that are not in it as they were."""

    data: D
    notes: dict[str, int]
    """Counts, camelCase."""

    def summary(self) -> dict[str, int | float]:
        """Return how many rows and tokens there are, and the notes."""
        lengths = self.data.lengths
        return {
            "count": len(lengths),
            "tokens": int(lengths.sum()),
            "meanTokens": round(float(lengths.mean()), 2) if len(lengths) else 0.0,
            "longestTokens": int(lengths.max(initial=0)),
            **self.notes,
        }


TokenisedSet = Tokenised[Demonstrations] | Tokenised[Pairs] | Tokenised[Prompts]


def tokenise_demonstrations(
    encoder: Encoder, records: Sequence[Demonstration], maximum_tokens: int, heartbeat: Heartbeat
) -> Tokenised[Demonstrations]:
    """Return the demonstrations as tokens, each of `maximum_tokens` at most."""
    rows: list[Row] = []
    masks: list[NDArray[np.uint8]] = []
    num_truncated = num_without_response = 0
    for chunk in _chunks(records, heartbeat):
        for tokens, mask in encoder.demonstrations(chunk):
            if not any(mask[:maximum_tokens]):
                num_without_response += 1
                continue
            num_truncated += len(tokens) > maximum_tokens
            rows.append(_row(tokens[:maximum_tokens]))
            masks.append(np.array(mask[:maximum_tokens], np.uint8))
    data = Demonstrations(Ragged.of(rows, np.int32), Ragged.of(masks, np.uint8))
    notes = {"truncated": num_truncated, "leftOutWithoutResponse": num_without_response}
    return Tokenised(data, notes)


def tokenise_comparisons(
    encoder: Encoder, records: Sequence[Comparison], maximum_tokens: int, heartbeat: Heartbeat
) -> Tokenised[Pairs]:
    """Return the comparisons as tokens, both sides of `maximum_tokens` at most."""
    chosen_rows: list[Row] = []
    rejected_rows: list[Row] = []
    num_too_long = num_alike = 0
    for chunk in _chunks(records, heartbeat):
        for chosen, rejected in encoder.pairs(chunk):
            if max(len(chosen), len(rejected)) > maximum_tokens:
                num_too_long += 1
            elif chosen == rejected:
                num_alike += 1
            else:
                chosen_rows.append(_row(chosen))
                rejected_rows.append(_row(rejected))
    data = Pairs(Ragged.of(chosen_rows, np.int32), Ragged.of(rejected_rows, np.int32))
    return Tokenised(data, {"leftOutTooLong": num_too_long, "leftOutAlike": num_alike})


def tokenise_prompts(
    encoder: Encoder, records: Sequence[Prompt], maximum_tokens: int, heartbeat: Heartbeat
) -> Tokenised[Prompts]:
    """Return the prompts as tokens.

    Raises:
        InvalidError: prompts have more than `maximum_tokens` tokens, or none.
    """
    rows: list[Row] = []
    texts: list[NDArray[np.uint8]] = []
    turns: list[NDArray[np.uint8]] = []
    problems = Problems("spec.data.prompts")
    for chunk in _chunks(records, heartbeat):
        for record, (tokens, text) in zip(chunk, encoder.prompts(chunk), strict=True):
            rows.append(_row(tokens))
            texts.append(np.frombuffer(text.encode(), np.uint8))
            turns.append(np.frombuffer(encode_turns(record.prompt), np.uint8))
            if not 0 < len(tokens) <= maximum_tokens:
                problems.add(_misfit(record.place, text, len(tokens), maximum_tokens))
    if problems:
        raise invalid(problems.told())
    columns = Ragged.of(texts, np.uint8), Ragged.of(turns, np.uint8)
    return Tokenised(Prompts(Ragged.of(rows, np.int32), *columns), {})


def _row(tokens: Sequence[int]) -> Row:
    """Return `tokens` in a ninth of the memory that a list of integers takes."""
    return np.array(tokens, np.int32)


def _misfit(place: str, text: str, num_tokens: int, maximum_tokens: int) -> Problem:
    if not num_tokens:
        return Problem(
            f"{place} prompt", shortened(text), "has no tokens to begin with", "remove the record"
        )
    return Problem(
        f"{place} prompt",
        shortened(text),
        f"has {num_tokens} tokens, more than spec.data.prompts.maximumTokens={maximum_tokens}",
        "shorten or remove the prompt, or raise the limit",
    )


def _chunks(records: Sequence[R], heartbeat: Heartbeat) -> Iterator[Sequence[R]]:
    for start in range(0, len(records), CHUNK_RECORDS):
        yield records[start : start + CHUNK_RECORDS]
        heartbeat()
