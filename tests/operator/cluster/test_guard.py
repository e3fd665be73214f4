"""A policy that runs away from the SFT model is stopped, by the trainer or from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run, merged

NAMESPACE = "guarded"

BREACH: dict[str, Any] = {
    "ppo": {
        "learningRate": 3e-2,
        "totalEpisodes": 16 * 12,
        "kl": {"coefficient": 0, "controller": "Fixed"},
    },
    "guard": {"kl": {"limitNats": 0.5}},
    "monitoring": {"scrapeIntervalSeconds": 1},
    "runPolicy": {"terminationGracePeriodSeconds": 30},
}

REASONS = {"KLLimitExceeded", "KLCeilingExceeded"}


def check_stop(run: Run, by: str, root: Path) -> None:
    """The reason stands in conditions and Events; the certified policy is where it says."""
    finished = run.wait("Finished", seconds=240)
    assert finished["reason"] in REASONS
    assert run.condition("Succeeded")["status"] == "False"
    assert run.condition("KLWithinLimit")["status"] == "False"
    stop = run.status["stop"]
    assert stop["by"] == by
    assert stop["klNats"] > stop["limitNats"] == 0.5
    assert run.status["phase"] == "Stopped"
    assert stop["reason"] in run.events()
    folder = root / f"{run.name}-{run.object['metadata']['uid'][:8]}" / stop["checkpoint"]
    assert (folder / "model.safetensors").exists()


def stops(operator: OperatorProcess, by: str) -> float:
    prefix = f'rlhf_operator_kl_stops_total{{by="{by}"}} '
    lines = operator.page("/metrics").splitlines()
    found = [line for line in lines if line.startswith(prefix)]
    return float(found[0].removeprefix(prefix)) if found else 0.0


def test_breach_is_stopped_by_the_trainer(
    apply_real: Callable[..., Run], volume: Callable[[str], Path], operator: OperatorProcess
) -> None:
    before = stops(operator, "Trainer")
    run = apply_real(NAMESPACE, "breach", **BREACH)
    check_stop(run, "Trainer", volume(NAMESPACE))
    assert stops(operator, "Trainer") == before + 1


def test_breach_is_stopped_from_outside_by_intent_first_and_then_by_deletion(
    apply_real: Callable[..., Run],
    volume: Callable[[str], Path],
    operator: OperatorProcess,
    cluster: Cluster,
) -> None:
    before, mark = stops(operator, "Operator"), cluster.audit.mark()
    enforced = {
        "guard": {"kl": {"enforcedBy": ["Operator"]}},
        "ppo": {"totalEpisodes": 16 * 5000},
    }
    run = apply_real(NAMESPACE, "watched", **merged(BREACH, enforced))
    check_stop(run, "Operator", volume(NAMESPACE))
    assert stops(operator, "Operator") == before + 1
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


def test_image_that_cannot_be_pulled_is_seen_in_a_condition(
    apply_real: Callable[..., Run],
) -> None:
    run = apply_real(NAMESPACE, "pulls", image="localhost/absent:1")
    stuck = run.wait("Progressing", "False", "ImagePullFailed")
    assert "localhost/absent:1" in stuck["message"]
    run.delete()
    assert not run.pods()
