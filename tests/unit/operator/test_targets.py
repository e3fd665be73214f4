"""Which attempts are read from outside: live ones with an address, when it is their turn."""

from typing import Any

import pytest

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.cluster import Cache
from rlhf_operator.targets import targets
from rlhf_trainer.contract import Phase

KEY = RunKey("a", "demo")
ATTEMPT = AttemptKey(1, Phase.PPO, 2)


def run(**status: Any) -> dict[str, Any]:
    running = {"number": 2, "watch": {"lastStep": 7}}
    phases = [{"iteration": 1, "phase": "SFT"}, {"iteration": 1, "phase": "PPO"}]
    phases[1]["running"] = running
    return {
        "metadata": {"namespace": "a", "name": "demo", "uid": "u", "resourceVersion": "5"},
        "spec": {"monitoring": {"scrapeIntervalSeconds": 20}},
        "status": {"phases": phases, **status},
    }


def pod(attempt: int, phase: str = "Running") -> dict[str, Any]:
    labels = {
        "rlhf.dev/run": "demo",
        "rlhf.dev/iteration": "1",
        "rlhf.dev/phase": "ppo",
        "rlhf.dev/attempt": str(attempt),
    }
    named = {"namespace": "a", "name": f"demo-{attempt}", "uid": f"p{attempt}"}
    return {
        "metadata": {**named, "resourceVersion": "6", "labels": labels},
        "status": {"phase": phase, "podIP": f"10.0.0.{attempt}"},
    }


def test_live_attempt_is_read_where_its_own_pod_answers() -> None:
    cache = Cache()
    cache.runs.put(run())
    cache.pods.put(pod(1))
    cache.pods.put(pod(2))
    [target] = targets(cache, lambda *_: True)
    assert (target.run, target.attempt, target.address) == (KEY, ATTEMPT, "10.0.0.2")
    assert (target.interval_seconds, target.known_step) == (20, 7)


def test_whose_turn_it_is_not_is_asked_about_and_left_out() -> None:
    cache, asked = Cache(), []
    cache.runs.put(run())
    cache.pods.put(pod(2))

    def is_due(key: RunKey, attempt: AttemptKey) -> bool:
        asked.append((key, attempt))
        return False

    assert list(targets(cache, is_due)) == []
    assert asked == [(KEY, ATTEMPT)]


@pytest.mark.parametrize(
    ("status", "pods"),
    [({}, []), ({}, [pod(1)]), ({}, [pod(2, "Pending")]), ({"outcome": "Stopped"}, [pod(2)])],
    ids=["no-pod", "pod-of-an-earlier-attempt", "pod-not-running", "run-over"],
)
def test_nothing_to_read_where_nothing_answers(
    status: dict[str, Any], pods: list[dict[str, Any]]
) -> None:
    cache = Cache()
    cache.runs.put(run(**status))
    for one in pods:
        cache.pods.put(one)
    assert list(targets(cache, lambda *_: True)) == []
