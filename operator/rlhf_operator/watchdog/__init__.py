"""Reading an attempt's metrics from outside: bounded in bytes and time, and never an error.

What the readings mean is decided in `decide.watch`.
"""

from rlhf_operator.watchdog.fetching import new_session
from rlhf_operator.watchdog.reader import Reader
from rlhf_operator.watchdog.readings import Readings
from rlhf_operator.watchdog.rounds import Target, Watchdog

__all__ = ["Reader", "Readings", "Target", "Watchdog", "new_session"]
