"""Which attempts are read from outside, and where: live ones, when it is their turn."""

from typing import Any

import pytest

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.cluster import Cache
from rlhf_operator.targets import Targets
from rlhf_trainer.contract import Phase

KEY = RunKey("a", "demo")
ATTEMPT = AttemptKey(1, Phase.PPO, 2)
THIRD = AttemptKey(1, Phase.PPO, 3)


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
    [target] = Targets(cache)(lambda *_: True)
    assert (target.run, target.attempt, target.address) == (KEY, ATTEMPT, "10.0.0.2")
    assert (target.interval_seconds, target.known_step) == (20, 7)


def test_whose_turn_it_is_not_is_asked_about_and_left_out() -> None:
    cache, asked = Cache(), []
    cache.runs.put(run())
    cache.pods.put(pod(2))

    def is_due(key: RunKey, attempt: AttemptKey) -> bool:
        asked.append((key, attempt))
        return False

    assert list(Targets(cache)(is_due)) == []
    assert asked == [(KEY, ATTEMPT)]


@pytest.mark.parametrize(
    "pods",
    [[], [pod(1)], [pod(2, "Pending")]],
    ids=["no-pod", "pod-of-an-earlier-attempt", "pod-not-running"],
)
def test_live_attempt_of_which_nothing_answers_has_no_address(pods: list[dict[str, Any]]) -> None:
    cache = Cache()
    cache.runs.put(run())
    for one in pods:
        cache.pods.put(one)
    [target] = Targets(cache)(lambda *_: True)
    assert (target.attempt, target.address) == (ATTEMPT, None)


def test_run_that_is_over_is_not_read() -> None:
    cache = Cache()
    cache.runs.put(run(outcome="Stopped"))
    cache.pods.put(pod(2))
    assert list(Targets(cache)(lambda *_: True)) == []


def test_another_state_of_a_run_is_looked_at_anew() -> None:
    cache = Cache()
    targets = Targets(cache)
    cache.runs.put(run())
    cache.pods.put(pod(2))
    cache.pods.put(pod(3))
    assert [one.attempt for one in targets(lambda *_: True)] == [ATTEMPT]
    later = run()
    later["metadata"]["resourceVersion"] = "7"
    later["status"]["phases"][1]["running"] = {"number": 3, "watch": {"lastStep": 9}}
    cache.runs.put(later)
    [target] = targets(lambda *_: True)
    assert (target.attempt, target.address, target.known_step) == (THIRD, "10.0.0.3", 9)
    cache.runs.remove(later)
    assert list(targets(lambda *_: True)) == []
