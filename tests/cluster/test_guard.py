"""A policy that runs away from the SFT model is stopped, by the trainer or from outside."""

import re

import pytest
from rlhf_harness.waiting import until
from story import BREACH, OUTSIDE, Story

TOLD = re.compile(
    r"KL (was above the limit of 12 nats per response in 2 steps running|"
    r"rose above the ceiling of 24 nats per response), [\d.]+ at step \d+: "
    r"training stops; raise ppo.kl.coefficient, lower ppo.learningRate, or allow more KL by "
    r"guard.kl; PPO was at step \d+; the policy, certified at step \d+, is in "
    r"watched-[0-9a-f]{8}/iteration-1/\S+ on claim workspace; to run it again, create another "
    r"run; next: kubectl get events -n examples --for rlhfrun/watched"
)

REASONS = {"KLLimitExceeded", "KLCeilingExceeded"}


@pytest.mark.parametrize(("name", "by"), [(BREACH, "Trainer"), (OUTSIDE, "Operator")])
def test_breach_is_stopped_and_the_certified_policy_is_where_the_reason_says(
    story: Story, name: str, by: str
) -> None:
    run = story.runs[name]
    finished = run.condition("Finished")
    assert finished["reason"] in REASONS
    assert run.condition("Succeeded")["status"] == "False"
    assert run.condition("KLWithinLimit")["status"] == "False"
    stop = run.status["stop"]
    assert stop["by"] == by
    assert stop["klNats"] > stop["limitNats"] == 12
    assert run.status["phase"] == "Stopped"
    assert stop["reason"] in run.events()
    folder = story.workspace(name) / stop["checkpoint"]
    assert (folder / "model.safetensors").exists()
    assert stop["checkpoint"] in finished["message"]
    counted = f'max(rlhf_operator_kl_stops_total{{by="{by}"}})'
    stops = story.prometheus.range(counted, start=story.start, end=story.end)
    assert max(value for _, value in stops[0].points) >= 1


def test_breach_is_stopped_from_outside_by_intent_first_and_then_by_deletion(story: Story) -> None:
    run = story.runs[OUTSIDE]
    assert TOLD.fullmatch(run.condition("Finished")["message"])
    until(lambda: not any("ppo" in name for name in run.jobs()), "its job to be gone")
    writes = [
        one
        for one in story.cluster.audit.since(story.mark, user=story.operator)
        if one.writes and one.name.startswith(OUTSIDE)
    ]
    intent = next(
        index
        for index, one in enumerate(writes)
        if one.subresource == "status" and "stop" in one.body["status"]
    )
    deletion = next(
        index
        for index, one in enumerate(writes)
        if one.verb == "delete" and one.name == f"{OUTSIDE}-i1-ppo-a1"
    )
    assert intent < deletion


def test_pod_that_is_deleted_is_followed_by_another_attempt(story: Story) -> None:
    phase = story.runs[BREACH].phase("RewardModel")
    assert (phase["attempts"], phase["state"]) == (2, "Succeeded")
