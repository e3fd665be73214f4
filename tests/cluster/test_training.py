"""The example in real pods, by an operator in pods, from the manifest to the verdict."""

from collections.abc import Callable

from budget import report
from story import MOVIE_REVIEWS, Story

from rlhf_trainer.contract import Phase, Workspace


def test_movie_reviews_runs_in_pods_and_ppo_on_two_nodes(
    story: Story, say: Callable[[str], None]
) -> None:
    run = story.runs[MOVIE_REVIEWS]
    assert run.condition("Finished")["reason"] == "Completed"
    assert run.condition("Succeeded")["status"] == "True"
    phases = {phase["phase"]: phase for phase in run.status["phases"]}
    assert phases["PPO"]["metrics"]["klNats"] >= 0
    assert phases["PPO"]["certifiedStep"] == phases["PPO"]["step"] == 4
    assert "winRate" in phases["Evaluation"]["metrics"]
    assert phases["PPO"]["size"] == {"nodes": 2, "gpusPerNode": 1, "processesPerNode": 1}
    attempt = Workspace(story.workspace(MOVIE_REVIEWS)).attempt(1, Phase.PPO, 1)
    assert sorted(path.name for path in attempt.root.glob("outcome-*.json")) == [
        "outcome-0.json",
        "outcome-1.json",
    ]
    assert phases["PPO"]["gpuSeconds"] > 0
    ended = run.condition("Finished")["message"]
    assert phases["PPO"]["modelPath"] in ended
    assert "next: kubectl logs movie-reviews-i1-evaluation-a1-master-0 -n examples" in ended
    assert "win_rate=" in run.kubernetes.kubectl(*ended.partition("next: kubectl ")[2].split())
    model = story.workspace(MOVIE_REVIEWS) / phases["PPO"]["modelPath"] / "model.safetensors"
    assert model.exists()
    say(f"from apply to the first pod: {story.first_pod_seconds:.1f} s")
    report(run, story.cluster.audit.since(story.mark, user=story.operator), say)


def test_leader_that_is_deleted_in_mid_run_is_followed_and_the_run_does_not_notice(
    story: Story,
) -> None:
    before, after = story.leaders
    assert before != after
    old, new = story.jobs
    assert old == new
    run = story.runs[MOVIE_REVIEWS]
    assert {phase["phase"]: phase["attempts"] for phase in run.status["phases"]} == dict.fromkeys(
        ("Preparation", "SFT", "RewardModel", "PPO", "Evaluation"), 1
    )
    # Both did work: what came after PPO began was written by the successor.
    [leads] = [
        series.labels["pod"]
        for series in story.prometheus.query("rlhf_operator_leads == 1", at=story.end)
    ]
    assert leads == after
