"""A phase with one loss that is not a number from its third call on, on the last rank alone.

SICK_LOSS names it, as module:function where the phase looks it up.
"""

import dataclasses
import importlib
import os
import sys
from itertools import count
from typing import Any

from torch import Tensor

from rlhf_trainer.__main__ import main

HEALTHY_CALLS = 2


def spoil(returned: Any) -> Any:
    if isinstance(returned, Tensor):
        return returned * float("nan")
    return dataclasses.replace(returned, loss=returned.loss * float("nan"))


def make_sick(place: str) -> None:
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    healthy = getattr(module, name)
    calls = count(1)

    def sick(*args: Any, **kwargs: Any) -> Any:
        returned = healthy(*args, **kwargs)
        return spoil(returned) if next(calls) > HEALTHY_CALLS else returned

    setattr(module, name, sick)


if __name__ == "__main__":
    if os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
        make_sick(os.environ["SICK_LOSS"])
    sys.exit(main(sys.argv[1:]))
