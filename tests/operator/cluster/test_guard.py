"""A policy that runs away from the SFT model is stopped from outside, at the right step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import Run

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

REASONS = {"KLLimitExceeded", "KLCeilingExceeded"}


def check_stop(run: Run, by: str, root: Path) -> None:
    """The reason stands in conditions and Events; the certified policy is where it says."""
    finished = run.wait("Finished", seconds=600)
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
