"""How the report writes numbers for people. Pure."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

_SMALL = 1e-3
_LARGE = 1e6
"""Between these, numbers are written without an exponent."""

_THOUSANDS_FROM = 10_000
_MINUTE, _HOUR = 60, 3600

NOT_A_NUMBER = "not a number"
MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """Return a number with three significant digits, such as 0.0123, 12.3 or 1.2e-5."""
    if math.isnan(value):
        return NOT_A_NUMBER
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    size = abs(value)
    if size == 0:
        return "0"
    if size < _SMALL or size >= _LARGE:
        digits, _, exponent = f"{value:.2e}".partition("e")
        text = f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    elif size >= _THOUSANDS_FROM:
        text = f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    else:
        decimals = max(0, 2 - math.floor(math.log10(size)))
        text = f"{value:.{decimals}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    return _typeset(text)


def tick_labels(ticks: Sequence[float], write: Callable[[float], str] = number) -> dict[float, str]:
    """Return what is written at every tick: plain numbers all have the decimals of their step."""
    largest = max(map(abs, ticks), default=0.0)
    if write is not number or len(ticks) == 1 or not _SMALL <= largest < _THOUSANDS_FROM:
        return {tick: write(tick) for tick in ticks}
    step = min(after - before for before, after in pairwise(ticks))
    decimals = max(0, 1 - math.floor(math.log10(step) + 1e-9))
    if all(math.isclose(tick, round(tick, decimals - 1), abs_tol=step / 1e3) for tick in ticks):
        decimals -= 1
    return {tick: _typeset(f"{tick:.{max(0, decimals)}f}") if tick else "0" for tick in ticks}


def score(value: float) -> str:
    """Return a normalised score, whose unit is a standard deviation, with its sign."""
    return _typeset(f"{value:+.2f}") if math.isfinite(value) else number(value)


def percent(share: float) -> str:
    """Return a share as a percentage with three significant digits."""
    return f"{number(100 * share)}%" if math.isfinite(share) else number(share)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def capitalised(sentence: str) -> str:
    """Return the sentence with its first letter as a capital, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def _typeset(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text
