"""How long a phase still takes, and durations in words."""

from dataclasses import dataclass
from datetime import datetime

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Pace:
    """When a phase was first seen and at which step: a resumed one does not begin at zero."""

    time: datetime
    step: int

    def remaining_seconds(self, now: datetime, step: int, total_steps: int) -> float | None:
        """Return the time to the last step at the speed so far, or None while it is not known."""
        made = step - self.step
        if made <= 0 or total_steps <= 0:
            return None
        return (now - self.time).total_seconds() / made * max(total_steps - step, 0)


def in_words(seconds: float) -> str:
    """Return a duration as people write it, such as `3 min 05 s`."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
