"""Lets a trainer of TRL's take its steps when it is told to; for all of TRL's sides."""

from typing import Any

from transformers import TrainerCallback
from typing_extensions import override

from stopwatch import EnoughError, Pace, Stopwatch


class Timed(TrainerCallback):
    """Waits for each turn, and says what its step took; what no stage has counts as update."""

    def __init__(self, pace: Pace, watch: Stopwatch) -> None:
        self._watch, self._pace = watch, pace

    @override
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._begin_if(self._pace.ready())

    @override
    def on_step_end(self, *_: Any, **__: Any) -> None:
        stages = self._watch.end()
        stages["update"] = stages.pop("other")
        self._begin_if(self._pace.finish(stages, {}))

    def _begin_if(self, more: bool) -> None:  # noqa: FBT001 - what the pace has said
        if not more:
            raise EnoughError
        self._watch.begin()
