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


def names_of(run: Run) -> list[str]:
    return [pod["metadata"]["name"] for pod in run.pods()]


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
    worker = "movie-reviews-i1-ppo-a1-worker-0"
    until(
        lambda: worker in names_of(run), lambda: f"{worker} of {names_of(run)}", timeout_seconds=60
    )
    assert run.wait("Finished", seconds=400)["reason"] == "Completed"
    assert run.condition("Succeeded")["status"] == "True"
    phases = {phase["phase"]: phase for phase in run.status["phases"]}
    assert phases["PPO"]["metrics"]["klNats"] >= 0
    assert phases["PPO"]["certifiedStep"] == phases["PPO"]["step"] == 4
    assert "winRate" in phases["Evaluation"]["metrics"]
    assert phases["PPO"]["size"] == {"nodes": 2, "gpusPerNode": 1, "processesPerNode": 1}
    assert phases["PPO"]["gpuSeconds"] > 0
    ended = run.condition("Finished")["message"]
    assert phases["PPO"]["modelPath"] in ended
    assert "next: kubectl logs movie-reviews-i1-evaluation-a1-master-0 -n examples" in ended
    assert "win_rate=" in run.kubernetes.kubectl(*ended.partition("next: kubectl ")[2].split())
    root = examples / f"movie-reviews-{run.object['metadata']['uid'][:8]}"
    assert (root / phases["PPO"]["modelPath"] / "model.safetensors").exists()
    with capsys.disabled():
        print(f"\nfrom apply to the first pod: {first_pod_seconds:.1f} s")  # noqa: T201 -- for people
        report(run, cluster.audit.since(mark, user=operator.user), print)
