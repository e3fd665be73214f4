"""Whether runs can be placed: judged anew once their spec, the pools or what is left have changed.

Phases that are done need no place any more, and one that has begun is held against its size.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rlhf_operator.api import PhaseSize, Pool, RLHFRun, RLHFRunSpec, RunKey
from rlhf_operator.api.pool import host_network_warning, placement_refusal
from rlhf_operator.decide.sequence import visited
from rlhf_operator.errors import SpecError
from rlhf_trainer.contract import Phase

Come = tuple[tuple[Phase, bool, PhaseSize | None], ...]
"""How far the phases of a run have come: whether each is done, and its size if it has begun."""


class Judgement(NamedTuple):
    """What is to be said about the place of a run."""

    refused: SpecError | None = None
    """Why it cannot be placed."""
    warning: str | None = None
    """What is to be known about its place."""


class _Judged(NamedTuple):
    spec: RLHFRunSpec
    pools: Mapping[str, Pool]
    come: Come
    found: Judgement


class Judge:
    """Judges runs; specs and pools that are the same objects as before are the same."""

    def __init__(self, pools: Callable[[], Mapping[str, Pool]]) -> None:
        self._pools = pools
        self._known: dict[RunKey, _Judged] = {}

    def judge(self, run: RLHFRun) -> Judgement:
        """Return what is to be said about the place of a run; nothing, once it is over."""
        if run.status.outcome is not None:
            # It will not be placed again; thousands of these are looked at when a process starts.
            self.forget(run.key)
            return Judgement()
        pools, come = self._pools(), _come(run)
        known = self._known.get(run.key)
        if known and known.spec is run.spec and known.pools is pools and known.come == come:
            return known.found
        refused = placement_refusal(run.spec, pools, _left(run))
        found = Judgement(refused, host_network_warning(run.spec, pools))
        self._known[run.key] = _Judged(run.spec, pools, come, found)
        return found

    def forget(self, key: RunKey) -> None:
        """Drop what is known of a run."""
        self._known.pop(key, None)


def _come(run: RLHFRun) -> Come:
    return tuple((phase.phase, phase.state.is_done, phase.size) for phase in run.status.phases)


def _left(run: RLHFRun) -> dict[Phase, PhaseSize | None]:
    """Return what is still to be placed; before the first visit the status names no phases."""
    phases = visited(run).phases
    return {phase.phase: phase.size for phase in phases if not phase.state.is_done}
