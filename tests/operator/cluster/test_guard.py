"""A policy that runs away from the SFT model is stopped, by the trainer or from outside."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, merged

NAMESPACE = "guarded"

LIMIT_NATS, CONSECUTIVE_STEPS = 0.5, 2

BREACH: dict[str, Any] = {
    "ppo": {
        "learningRate": 3e-2,
        "totalEpisodes": 16 * 5000,
        "kl": {"coefficient": 0, "controller": "Fixed"},
    },
    "guard": {
        "kl": {
            "limitNats": LIMIT_NATS,
            "ceilingNats": 1000,
            "consecutiveSteps": CONSECUTIVE_STEPS,
            "enforcedBy": ["Operator"],
        }
    },
}

REDUCED: dict[str, Any] = {
    "sft": {"maximumSteps": 10},
    "rewardModel": {"maximumSteps": 40, "minimumAccuracy": 0},
    "monitoring": {"scrapeIntervalSeconds": 1},
    "runPolicy": {"terminationGracePeriodSeconds": 30},
}

TOLD = re.compile(
    r"KL was above the limit of 12 nats per response in 2 steps running, [\d.]+ at step \d+: "
    r"training stops; raise ppo.kl.coefficient, lower ppo.learningRate, or allow more KL by "
    r"guard.kl; PPO was at step \d+; the policy, certified at step \d+, is in "
    r"watched-[0-9a-f]{8}/iteration-1/\S+ on claim workspace; to run it again, create another "
    r"run; next: kubectl get events -n examples --for rlhfrun/watched"
)

REASONS = {"KLLimitExceeded", "KLCeilingExceeded"}


def check_stop(run: Run, by: str, root: Path) -> None:
    """The reason stands in conditions and Events; the certified policy is where it says."""
    finished = run.wait("Finished", seconds=300)
    assert finished["reason"] in REASONS
    assert run.condition("Succeeded")["status"] == "False"
    assert run.condition("KLWithinLimit")["status"] == "False"
    stop = run.status["stop"]
    assert stop["by"] == by
    assert stop["klNats"] > stop["limitNats"]
    assert run.status["phase"] == "Stopped"
    assert stop["reason"] in run.events()
    folder = workspace(run, root) / stop["checkpoint"]
    assert (folder / "model.safetensors").exists()
    assert stop["checkpoint"] in finished["message"]


def workspace(run: Run, root: Path) -> Path:
    folder: Path = root / f"{run.name}-{run.object['metadata']['uid'][:8]}"
    return folder


def kl_by_step(run: Run, root: Path) -> list[float]:
    history = workspace(run, root) / "iteration-1" / "ppo" / "attempt-1" / "history.jsonl"
    records = [json.loads(line) for line in history.read_text("utf-8").splitlines()]
    found = {record["step"]: record["values"]["kl_nats"] for record in records}
    return [found[step] for step in range(len(found))]


def stops(operator: OperatorProcess, by: str) -> float:
    prefix = f'rlhf_operator_kl_stops_total{{by="{by}"}} '
    lines = operator.page("/metrics").splitlines()
    found = [line for line in lines if line.startswith(prefix)]
    return float(found[0].removeprefix(prefix)) if found else 0.0


def test_breach_is_stopped_by_the_trainer(
    apply_example: Callable[..., Run], examples: Path, operator: OperatorProcess
) -> None:
    before = stops(operator, "Trainer")
    run = apply_example("kl-breach", "breach", **merged(REDUCED, {"monitoring": None}))
    check_stop(run, "Trainer", examples)
    assert run.status["stop"]["limitNats"] == 12
    assert stops(operator, "Trainer") == before + 1


def test_breach_is_stopped_from_outside_by_intent_first_and_then_by_deletion(
    apply_example: Callable[..., Run], examples: Path, operator: OperatorProcess, cluster: Cluster
) -> None:
    before, mark = stops(operator, "Operator"), cluster.audit.mark()
    enforced = {"guard": {"kl": {"enforcedBy": ["Operator"]}}}
    run = apply_example("kl-breach", "watched", **merged(REDUCED, enforced))
    check_stop(run, "Operator", examples)
    assert stops(operator, "Operator") == before + 1
    assert TOLD.fullmatch(run.condition("Finished")["message"])
    until(lambda: not any("ppo" in name for name in run.jobs()), "its job to be gone")
    writes = [
        one
        for one in cluster.audit.since(mark, user=operator.user)
        if one.writes and one.name.startswith("watched")
    ]
    intent = next(
        index
        for index, one in enumerate(writes)
        if one.subresource == "status" and "stop" in one.body["status"]
    )
    deletion = next(
        index
        for index, one in enumerate(writes)
        if one.verb == "delete" and one.name == "watched-i1-ppo-a1"
    )
    assert intent < deletion


def test_watchdog_judges_every_step_however_rarely_it_looks(
    apply_real: Callable[..., Run], volume: Callable[[str], Path]
) -> None:
    """Steps of the toy run are many to a reading; the stop names the first that met the rule."""
    run = apply_real(NAMESPACE, "fast", monitoring={"scrapeIntervalSeconds": 5}, **BREACH)
    check_stop(run, "Operator", volume(NAMESPACE))
    above = [value > LIMIT_NATS for value in kl_by_step(run, volume(NAMESPACE))]
    streaks = range(CONSECUTIVE_STEPS - 1, len(above))
    first = next(step for step in streaks if all(above[step + 1 - CONSECUTIVE_STEPS : step + 1]))
    assert run.status["stop"]["step"] == first
    assert len(above) > first + CONSECUTIVE_STEPS


def test_image_that_cannot_be_pulled_is_seen_in_a_condition(
    apply_real: Callable[..., Run],
) -> None:
    run = apply_real(NAMESPACE, "pulls", image="localhost/absent:1")
    stuck = run.wait("Progressing", "False", "ImagePullFailed")
    assert "localhost/absent:1" in stuck["message"]
    run.delete()
    assert not run.pods()
