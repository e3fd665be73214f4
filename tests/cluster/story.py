"""What happens in this room, once: three runs train beside each other, a leader and a pod go.

Tests read what was seen. Runs that wait for each other would leave cores idle.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_harness import Cluster
from rlhf_harness.helm import Release
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.prometheus import Prometheus
from rlhf_harness.waiting import until
from ruamel.yaml import YAML
from runs import Run, manifest, merged

ROOT = Path(__file__).resolve().parents[2]

PPO_SECONDS = 900
"""Longest way to PPO, when the machine is busy with other work."""

END_SECONDS = 900

ON_GPUS = {
    "placement": {"pool": "real", "gpusPerNode": 1, "phases": {"preparation": {"pool": "cpu"}}},
    "workspace": {"claimName": "workspace"},
    "monitoring": {"scrapeIntervalSeconds": 1},
    "podTemplate": {"env": [{"name": "OMP_NUM_THREADS", "value": "1"}]},
    "runPolicy": {"terminationGracePeriodSeconds": 30},
}

TRAINS: dict[str, Any] = {
    "sft": {"maximumSteps": 10},
    "rewardModel": {"maximumSteps": 25, "minimumAccuracy": 0},
    "ppo": {"totalEpisodes": 256},
    "evaluation": {"promptCount": 64, "everySteps": 2},
    "placement": {"phases": {"ppo": {"nodes": 2}}},
    # PPO may have ended when its job is looked at for the second time.
    "runPolicy": {"keepJobs": "All"},
}

# The floor is above any entropy: a breach that only warns.
# The trainer has two readings' time to end by itself, and three runs share the cores.
BREACHES: dict[str, Any] = {
    "monitoring": {"scrapeIntervalSeconds": 15},
    "sft": {"maximumSteps": 10},
    "rewardModel": {"maximumSteps": 40, "minimumAccuracy": 0},
    "guard": {"entropy": {"floorNatsPerToken": 20, "consecutiveSteps": 1}},
}

WATCHED = merged(
    BREACHES,
    {
        "guard": {"kl": {"enforcedBy": ["Operator"]}},
        "monitoring": {"scrapeIntervalSeconds": 1},
    },
)

MOVIE_REVIEWS, BREACH, OUTSIDE = "movie-reviews", "kl-breach", "watched"


@dataclass(frozen=True)
class Story:
    """What was seen."""

    cluster: Cluster
    release: Release
    prometheus: Prometheus
    volume: Path
    runs: dict[str, Run]
    start: float
    end: float
    """Between the two lies everything, in seconds since 1970."""

    mark: int
    """Where the audit log of it begins."""

    first_pod_seconds: float
    leaders: tuple[str, str]
    """Pods of the operator that led before and after the leader's was deleted."""

    jobs: tuple[str, str]
    """UIDs of the job of movie-reviews' PPO before it and after its successor began to work."""

    @property
    def operator(self) -> str:
        """The operator's name in the audit log."""
        return f"system:serviceaccount:{self.release.namespace}:{self.release.name}"

    def workspace(self, name: str) -> Path:
        """The folder of a run."""
        return self.volume / f"{name}-{self.runs[name].object['metadata']['uid'][:8]}"


def tell(
    cluster: Cluster, release: Release, prometheus: Prometheus, volume: Path, namespace: str
) -> Story:
    """Let it happen."""
    kubernetes, mark, start = cluster.kubernetes, cluster.audit.mark(), time.time()
    runs = {
        MOVIE_REVIEWS: _apply(kubernetes, namespace, MOVIE_REVIEWS, "movie-reviews", TRAINS),
        BREACH: _apply(kubernetes, namespace, BREACH, "kl-breach", BREACHES),
        OUTSIDE: _apply(kubernetes, namespace, OUTSIDE, "kl-breach", WATCHED),
    }
    until(lambda: bool(runs[MOVIE_REVIEWS].pods()), "the first pod")
    first_pod_seconds = time.time() - start
    _reach(runs[BREACH], "RewardModel")
    pod = f"{BREACH}-i1-reward-model-a1-master-0"
    until(lambda: pod in [one["metadata"]["name"] for one in runs[BREACH].pods()], pod)
    kubernetes.kubectl("delete", "pod", pod, "-n", namespace)
    _reach(runs[MOVIE_REVIEWS], "PPO")
    job = _job(runs[MOVIE_REVIEWS])
    leaders = _replace_leader(kubernetes, release)
    jobs = job, _job(runs[MOVIE_REVIEWS])
    for run in runs.values():
        _end(run)
    # What ended last has been read once more.
    end = time.time() + 2
    until(lambda: time.time() > end, "a last scrape")
    return Story(
        cluster, release, prometheus, volume, runs, start, end, mark, first_pod_seconds,
        leaders, jobs,
    )  # fmt: skip


def _apply(
    kubernetes: Kubernetes, namespace: str, name: str, example: str, changes: dict[str, Any]
) -> Run:
    """Apply the manifest of an example as it stands, but smaller and where pods run."""
    path = ROOT / "examples" / example / "rlhfrun.yaml"
    spec = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["spec"]
    kubernetes.apply(manifest(namespace, name, **merged(merged(spec, ON_GPUS), changes)))
    return Run(kubernetes, namespace, name)


def _reach(run: Run, phase: str) -> None:
    state = ""

    def decided() -> bool:
        nonlocal state
        status = run.status
        states = {one["phase"]: one.get("state", "") for one in status.get("phases", [])}
        state = states.get(phase, "")
        return state == "Running" or "outcome" in status

    _wait(decided, f"{phase} of {run.name}", PPO_SECONDS)
    assert state == "Running", run.status


def _end(run: Run) -> None:
    _wait(lambda: "outcome" in run.status, f"the end of {run.name}", END_SECONDS)
    run.wait("Finished")


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait without haste: each question starts a kubectl, and the runs need the cores."""
    until(condition, what, timeout_seconds=seconds, every_seconds=2)


def _job(run: Run) -> str:
    [job] = [name for name in run.jobs() if "-ppo-" in name]
    found = run.kubernetes.get("pytorchjob", job, "-n", run.namespace)
    uid: str = found["metadata"]["uid"]
    return uid


def _replace_leader(kubernetes: Kubernetes, release: Release) -> tuple[str, str]:
    """Delete the pod that leads; return it and the one that leads then."""
    before = _leader(kubernetes, release)
    kubernetes.kubectl("delete", "pod", before, "-n", release.namespace, "--wait=false")
    until(lambda: _leader(kubernetes, release) not in ("", before), "another leader")
    return before, _leader(kubernetes, release)


def _leader(kubernetes: Kubernetes, release: Release) -> str:
    """The pod that holds the lease; its identity is the pod's name with something behind it."""
    lease = kubernetes.get("lease", release.name, "-n", release.namespace)
    holder = lease["spec"].get("holderIdentity") or ""
    name: str = holder.rpartition("_")[0]
    return name
