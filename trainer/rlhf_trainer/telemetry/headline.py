"""Which numbers of a step people see first, and how they are written. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

_WORDS = {
    "kl_nats": "KL",
    "reward_score": "reward",
    "win_rate": "win rate",
    "preference_accuracy": "accuracy",
    'loss{name="sft"}': "loss",
    'loss{name="validation"}': "validation loss",
    'loss{name="reward"}': "loss",
    "entropy_nats_per_token": "entropy",
}
"""Numbers of a progress bar, the most telling first; a word is used once."""

_MAXIMUM_NUMBERS = 3
"""More numbers than these no longer fit beside a bar."""

_FIRST_IN_LINE = (
    "kl_nats",
    "kl_limit_nats",
    "reward_score",
    "entropy_nats_per_token",
    "response_length_tokens",
    "preference_accuracy",
    "win_rate",
)
"""Numbers that a narrow line keeps."""

_KEPT_FOR_NUMBERS = 80
"""Columns of a line that an event leaves to the numbers."""


def headline(values: Mapping[str, float], kl_limit_nats: float | None) -> str:
    """Return the few numbers that tell how a step went, for a progress bar."""
    words: dict[str, str] = {}
    for series, word in _WORDS.items():
        if series in values and word not in words:
            words[word] = f"{word} {values[series]:.3g}"
    if "KL" in words and kl_limit_nats is not None:
        words["KL"] += f" of {kl_limit_nats:.3g}"
    return " · ".join(list(words.values())[:_MAXIMUM_NUMBERS])


def step_fields(values: Mapping[str, float], seconds: float) -> list[tuple[str, str]]:
    """Return a step's numbers as fields of a log line, the most telling first."""
    order = [name for name in _FIRST_IN_LINE if name in values]
    order += [name for name in values if name not in _FIRST_IN_LINE]
    return [("seconds", f"{seconds:.2f}"), *((_key(name), f"{values[name]:.4g}") for name in order)]


def log_line(time: float, fields: Iterable[tuple[str, str]], *, width: int, event: str = "") -> str:
    """Return one logfmt line of at most `width` characters.

    An event comes whole before numbers do; numbers that do not fit are left out from the end.
    """
    stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"time={stamp}"
    tail = f" event={_quoted(event, width - _KEPT_FOR_NUMBERS)}" if event else ""
    for name, value in fields:
        field = f" {name}={value}"
        if len(line) + len(field) + len(tail) > width:
            break
        line += field
    return line + tail


def one_line(text: str) -> str:
    """Return the text with every blank, line break and control character as single blanks."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())


def _quoted(text: str, width: int) -> str:
    plain = one_line(text).replace('"', "'")
    if len(plain) + 2 > width:
        plain = plain[: width - 3] + "…"
    return f'"{plain}"'


def _key(series: str) -> str:
    """Spell a series with labels so that logfmt reads it: loss{name="sft"} becomes loss.sft."""
    name, _, labels = series.partition("{")
    values = [pair.partition("=")[2].strip('"') for pair in labels.rstrip("}").split(",") if pair]
    return ".".join([name, *values])
