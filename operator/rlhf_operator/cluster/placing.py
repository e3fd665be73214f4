"""Whether runs can be placed: judged anew once their spec or the pools have changed."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rlhf_operator.api import Pool, RLHFRun, RLHFRunSpec, RunKey
from rlhf_operator.api.pool import host_network_warning, placement_refusal
from rlhf_operator.errors import SpecError


class Judgement(NamedTuple):
    """What is to be said about the place of a run."""

    refused: SpecError | None = None
    """Why it cannot be placed."""
    warning: str | None = None
    """What is to be known about its place."""


class Judge:
    """Judges runs; specs and pools that are the same objects as before are the same."""

    def __init__(self, pools: Callable[[], Mapping[str, Pool]]) -> None:
        self._pools = pools
        self._known: dict[RunKey, tuple[RLHFRunSpec, Mapping[str, Pool], Judgement]] = {}

    def judge(self, run: RLHFRun) -> Judgement:
        """Return what is to be said about the place of a run; nothing, once it is over."""
        if run.status.outcome is not None:
            # It will not be placed again; thousands of these are looked at when a process starts.
            self.forget(run.key)
            return Judgement()
        pools = self._pools()
        known = self._known.get(run.key)
        if known is not None and known[0] is run.spec and known[1] is pools:
            return known[2]
        found = Judgement(placement_refusal(run.spec, pools), host_network_warning(run.spec, pools))
        self._known[run.key] = run.spec, pools, found
        return found

    def forget(self, key: RunKey) -> None:
        """Drop what is known of a run."""
        self._known.pop(key, None)
