"""How many writes a run costs, from the API server's audit log, and how long its steps took."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rlhf_harness.audit import Request
from runs import Run

BUDGET = 40
"""Writes for an undisturbed run of five phases, besides metric patches and Events."""

LISTS = 8
"""Lists of one kind within a run of some minutes: two processes lead, one after the other."""

_METRICS = ("step", "metrics", "certifiedStep", "checkpointStep", "running", "gpuSeconds")
"""What a metric patch changes of a phase."""


def counted(requests: Iterable[Request]) -> Counter[str]:
    """Count writes by what they are; metric patches apart."""
    found: Counter[str] = Counter()
    last: dict[tuple[str, str], Any] = {}
    for one in requests:
        if not one.writes or one.resource == "events":
            continue
        kind = f"{one.verb} {one.resource}{'/' if one.subresource else ''}{one.subresource}"
        if one.subresource == "status":
            place = (one.namespace, one.name)
            stripped = _without_metrics(one.body["status"])
            if last.get(place) == stripped:
                kind = "metric patch"
            last[place] = stripped
        found[kind] += 1
    return found


def report(run: Run, requests: list[Request], say: Callable[[str], None]) -> None:
    """Check the budget, and tell count and times."""
    own = [one for one in requests if one.name.startswith(run.name)]
    writes = counted(own)
    total = sum(count for kind, count in writes.items() if kind != "metric patch")
    lists = [one for one in requests if one.verb == "list"]
    lines = [f"writes of ours for {run.name}: {total} of at most {BUDGET}"]
    lines += [f"  {count:3d} {kind}" for kind, count in sorted(writes.items())]
    lines += [f"  {line}" for line in _times(run)]
    say("\n" + "\n".join(lines))
    assert total <= BUDGET, lines
    # The process lists each kind once in five minutes; a list in every pass would be hundreds.
    kinds = Counter(one.resource for one in lists)
    assert set(kinds) <= {"rlhfruns", "pytorchjobs", "pods"}, lists
    assert all(count <= LISTS for count in kinds.values()), kinds
    gets = [one for one in own if one.verb == "get"]
    assert len(gets) <= BUDGET, gets


def _without_metrics(status: dict[str, Any]) -> dict[str, Any]:
    phases = []
    for phase in status.get("phases", []):
        kept = {key: value for key, value in phase.items() if key not in _METRICS}
        running = phase.get("running")
        if running:
            own = ("number", "startTime", "stop")
            kept["running"] = {key: running[key] for key in own if key in running}
        phases.append(kept)
    dropped = ("phases", "headline", "conditions")
    conditions = [
        (one["type"], one["status"], one["reason"]) for one in status.get("conditions", [])
    ]
    rest = {key: value for key, value in status.items() if key not in dropped}
    return {**rest, "phases": phases, "conditions": conditions}


def _times(run: Run) -> Iterable[str]:
    created = _time(run.object["metadata"]["creationTimestamp"])
    before = created
    for phase in run.status["phases"]:
        if "startTime" not in phase or "finishTime" not in phase:
            continue
        start, finish = _time(phase["startTime"]), _time(phase["finishTime"])
        waited = (start - before).total_seconds()
        took = (finish - start).total_seconds()
        yield f"{phase['phase']}: begins {waited:.0f} s after what is before it, takes {took:.0f} s"
        before = finish


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
