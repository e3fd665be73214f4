"""The example in real pods, with real DeepSpeed training, from the manifest to the verdict."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from budget import report
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from runs import Run

REDUCED = {
    "sft": {"maximumSteps": 10},
    "rewardModel": {"maximumSteps": 25, "minimumAccuracy": 0},
    "ppo": {"totalEpisodes": 256},
    "evaluation": {"promptCount": 64},
}

PLACEMENT = {
    "pool": "real",
    "gpusPerNode": 1,
    "phases": {"preparation": {"pool": "cpu"}, "ppo": {"nodes": 2}},
}


def test_movie_reviews_runs_in_pods_and_ppo_on_two_nodes(
    apply_example: Callable[..., Run],
    examples: Path,
    operator: OperatorProcess,
    cluster: Cluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mark = cluster.audit.mark()
    run = apply_example(
        "movie-reviews",
        "movie-reviews",
        placement=PLACEMENT,
        monitoring={"scrapeIntervalSeconds": 1},
        **REDUCED,
    )
    began = time.monotonic()
    until(lambda: bool(run.pods()), "its first pod")
    first_pod_seconds = time.monotonic() - began
    until(lambda: run.phase("PPO").get("state") == "Running", "PPO", timeout_seconds=400)
    until(lambda: len(run.pods()) >= 2, "its two pods", timeout_seconds=60)
    assert run.wait("Finished", seconds=400)["reason"] == "Completed"
    assert run.condition("Succeeded")["status"] == "True"
    phases = {phase["phase"]: phase for phase in run.status["phases"]}
    assert phases["PPO"]["metrics"]["klNats"] >= 0
    assert phases["PPO"]["certifiedStep"] == phases["PPO"]["step"] == 4
    assert "winRate" in phases["Evaluation"]["metrics"]
    root = examples / f"movie-reviews-{run.object['metadata']['uid'][:8]}"
    assert (root / phases["PPO"]["modelPath"] / "model.safetensors").exists()
    with capsys.disabled():
        print(f"\nfrom apply to the first pod: {first_pod_seconds:.1f} s")  # noqa: T201 -- for people
        report(run, cluster.audit.since(mark, user=operator.user), print)
