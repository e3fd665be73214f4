"""Small statistics of evaluations and texts; no tensors needed."""

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


def wilson_interval(wins: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927); ties count as half a win.

    Raises:
        ValueError: there is nothing to judge.
    """
    if count < 1:
        msg = f"count={count}: an interval needs at least one trial"
        raise ValueError(msg)
    share = wins / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def win_count(scores: Sequence[float], baseline: Sequence[float]) -> float:
    """Return how often `scores` beat `baseline` pairwise; ties count half."""
    pairs = zip(scores, baseline, strict=True)
    return sum(1.0 if score > other else 0.5 if score == other else 0.0 for score, other in pairs)


def distinct_2(texts: Sequence[str]) -> float:
    """Return distinct over all word pairs, 0 without any (Li et al. 2016, arXiv:1510.03055)."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 for fewer than two values."""
    count = len(values)
    if count < 2:  # noqa: PLR2004 - the sample variance needs two
        return 0.0
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return math.sqrt(variance / count)


def calibration_error(margins: Sequence[float], bins: int = 10) -> float:
    """Return the expected calibration error of P(chosen) = sigmoid(margin) on held-out comparisons.

    Each comparison is one forecast max(p, 1 - p) that is right when the margin is positive
    (Guo et al. 2017, arXiv:1706.04599, equation 3), over `bins` equal bins of [0.5, 1].
    """
    totals = [[0, 0.0, 0.0] for _ in range(bins)]
    for margin in margins:
        confidence = 1 / (1 + math.exp(-min(abs(margin), 700.0)))
        bucket = totals[min(int((confidence - 0.5) * 2 * bins), bins - 1)]
        bucket[0] += 1
        bucket[1] += confidence
        bucket[2] += 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
    count = max(1, len(margins))
    return sum(abs(confident - right) for _, confident, right in totals) / count
