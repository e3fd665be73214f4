"""What the API server's audit log tells: when things were asked for and done, and how often."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from rlhf_harness.audit import Request

from rlhf_operator.decide.watch import PATIENCE_READINGS

FAILED = 300
"""Statuses from here on are no success."""


@dataclass(frozen=True)
class Spread:
    """Seconds: how many values, their median, 99th percentile and largest."""

    count: int
    p50: float
    p99: float
    largest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread | None":
        """Return the spread of some values; None if there are none."""
        found = sorted(seconds)
        if not found:
            return None
        return cls(len(found), _rank(found, 0.5), _rank(found, 0.99), round(found[-1], 3))


def _rank(ordered: Sequence[float], share: float) -> float:
    return round(ordered[max(math.ceil(share * len(ordered)) - 1, 0)], 3)


def run_of(job: str) -> str:
    """Return the run that a job or pod belongs to, by its name."""
    return job.partition("-i1-")[0]


class Story:
    """The requests of a while, by what they meant."""

    def __init__(self, requests: Iterable[Request], operator: str) -> None:
        self._operator = operator
        self.requests = [one for one in requests if one.code < FAILED]
        self.applied: dict[str, datetime] = {}
        self.jobs: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
        self._pods: dict[str, datetime] = {}
        self._ended: dict[str, datetime] = {}
        self._stopped: dict[str, datetime] = {}
        self._breached: dict[str, datetime] = {}
        self._breach_times: dict[str, datetime] = {}
        self._deleted: dict[str, datetime] = {}
        for one in self.requests:
            self._take(one)

    def apply_to_job(self) -> list[float]:
        """Return the times from a run's arrival to its first job's creation."""
        return [
            _seconds(self.applied[run], jobs[0][0])
            for run, jobs in self.jobs.items()
            if run in self.applied
        ]

    def job_to_pod(self) -> list[float]:
        """Return the times from a job's creation to that of its pod: the training operator's."""
        return [
            _seconds(created, self._pods[f"{job}-master-0"])
            for jobs in self.jobs.values()
            for created, job in jobs
            if f"{job}-master-0" in self._pods
        ]

    def phase_to_phase(self) -> list[float]:
        """Return the times from a pod's end to the creation of the next phase's job."""
        return [
            _seconds(self._ended[f"{before}-master-0"], created)
            for jobs in self.jobs.values()
            for (_, before), (created, _) in pairwise(jobs)
            if f"{before}-master-0" in self._ended
        ]

    def breach_seen(self, told: dict[str, float]) -> list[float]:
        """Return the times from the answer that told a breach to the status that holds it."""
        return [seen.timestamp() - told[run] for run, seen in self._breached.items() if run in told]

    def stop_late(self, interval_seconds: float) -> list[float]:
        """Return the times from the end of what a trainer is given to the status with the stop."""
        patience = timedelta(seconds=PATIENCE_READINGS * interval_seconds)
        return [
            _seconds(self._breach_times[run] + patience, stopped)
            for run, stopped in self._stopped.items()
            if run in self._breach_times
        ]

    def told_to_deleted(self, told: dict[str, float]) -> list[float]:
        """Return the times from the answer that told a breach to the deletion of the job."""
        return [
            gone.timestamp() - told[run]
            for run, gone in self._deleted.items()
            if run in told and run in self._stopped
        ]

    def stop_to_deleted(self) -> list[float]:
        """Return the times from the intent to the deletion of the job."""
        return [
            _seconds(stopped, self._deleted[run])
            for run, stopped in self._stopped.items()
            if run in self._deleted
        ]

    def runs_until_ppo(self) -> set[str]:
        """Return the runs that came in this while, and whose PPO began in it."""
        return {
            run
            for run, jobs in self.jobs.items()
            if run in self.applied and any("-ppo-" in name for _, name in jobs)
        }

    def calls(self, runs: set[str] | None = None) -> Counter[str]:
        """Count the operator's requests about some runs, or all of them, by verb and resource."""
        return Counter(
            f"{one.verb} {'/'.join(filter(None, (one.resource, one.subresource)))}"
            for one in self.requests
            if one.user == self._operator
            if runs is None or _about(one) in runs
        )

    def _take(self, one: Request) -> None:
        what = (one.verb, one.resource, one.subresource)
        if what == ("create", "rlhfruns", ""):
            self.applied[one.name or _named(one.body)] = one.received
        elif what == ("create", "pods", ""):
            self._pods[one.name] = one.answered
        elif what == ("patch", "pods", "status") and one.user == "kwok":
            self._ended[one.name] = one.answered
        elif one.user != self._operator:
            return
        elif what == ("create", "pytorchjobs", ""):
            self.jobs[run_of(one.name)].append((one.answered, one.name))
        elif what == ("delete", "pytorchjobs", ""):
            self._deleted[run_of(one.name)] = one.answered
        elif what == ("update", "rlhfruns", "status"):
            self._take_status(one)

    def _take_status(self, one: Request) -> None:
        status = (one.body or {}).get("status") or {}
        running = [phase.get("running") or {} for phase in status.get("phases") or ()]
        for watch in [attempt.get("watch") or {} for attempt in running]:
            if "breachTime" in watch:
                self._breached.setdefault(one.name, one.answered)
                self._breach_times[one.name] = datetime.fromisoformat(watch["breachTime"])
        if status.get("stop"):
            self._stopped.setdefault(one.name, one.answered)


def _about(one: Request) -> str:
    return one.name if one.resource == "rlhfruns" else run_of(one.name).partition(".")[0]


def _named(body: object) -> str:
    return str(body["metadata"]["name"]) if isinstance(body, dict) else ""


def _seconds(began: datetime, ended: datetime) -> float:
    return (ended - began).total_seconds()
