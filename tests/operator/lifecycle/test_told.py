"""What `kubectl get` and `kubectl describe` tell about each outcome: cause, value, what is next."""

from collections.abc import Callable

import pytest
from rlhf_harness.waiting import until
from runs import Run, ending, said
from telling import assert_told

from rlhf_trainer.contract import Outcome, Phase

Apply = Callable[..., Run]

NAMESPACE = "told"

KL_STOP = said(
    Outcome.STOPPED,
    phase=Phase.PPO,
    reason="KLCeilingExceeded",
    message="KL of 24.4 nats per response at step 2 is over its ceiling of 24 (limit 12)",
    step=2,
    certified_step=1,
    model_path="iteration-1/ppo/attempt-1/model",
    metrics={"klNats": 24.4, "klLimitNats": 12.0, "rewardScore": 1.25},
)


@pytest.mark.parametrize(
    ("outcome", "reason", "message"),
    [
        (
            Outcome.GATE_FAILED,
            "AgreementTooLow",
            "FleissKappa=0.31 is below spec.data.comparisons.minimumAgreement.atLeast=0.4",
        ),
        (
            Outcome.INVALID,
            "",
            "data/prompts.jsonl: line 3: prompt=17: not a string; put it in quotes",
        ),
        (Outcome.OUT_OF_MEMORY, "", "out of memory; halve spec.sft.tokensPerMicroBatch=8192"),
        (Outcome.DIVERGED, "NonFinite", "loss=nan at step 4: training has diverged"),
    ],
    ids=lambda value: str(value).lower() if isinstance(value, Outcome) else "",
)
def test_verdict_of_the_trainer_is_told(
    apply: Apply, outcome: Outcome, reason: str, message: str
) -> None:
    verdict = said(outcome, reason=reason, message=message)
    name = f"tells-{outcome.value.lower()}"
    run = apply(NAMESPACE, name, **ending("200ms", exit_code=outcome.exit_code, message=verdict))
    run.wait("Finished")
    assert_told(run, outcome.value.lower())


def test_completed_run_is_told(apply: Apply) -> None:
    run = apply(NAMESPACE, "tells-completed", **ending("200ms"))
    run.wait("Finished", reason="Completed")
    until(lambda: len(run.jobs()) == 1, lambda: f"its end: {run.jobs()}")
    assert_told(run, "completed")


def test_stop_by_the_guard_is_told(apply: Apply) -> None:
    run = apply(
        NAMESPACE,
        "tells-stopped",
        sft={"from": {"path": "sft"}},
        rewardModel={"from": {"path": "reward-model"}},
    )
    until(lambda: len(run.pods()) == 1, "its pod")
    run.patch(**ending("200ms", exit_code=10, message=KL_STOP))
    pod = run.pods()[0]["metadata"]["name"]
    run.kubernetes.kubectl("annotate", "pod", pod, "-n", NAMESPACE, "kwok.rlhf.dev/end-after=100ms")
    run.wait("Finished", reason="KLCeilingExceeded")
    assert_told(run, "stopped")


def test_exhausted_retries_are_told(apply: Apply) -> None:
    how = ending("200ms", exit_code=137, reason="OOMKilled")
    run = apply(NAMESPACE, "tells-exhausted", runPolicy={"backoffLimit": 0}, **how)
    run.wait("Finished", reason="RetriesExhausted")
    assert_told(run, "retries-exhausted")


def test_passed_deadline_is_told(apply: Apply) -> None:
    run = apply(NAMESPACE, "tells-deadline", runPolicy={"activeDeadlineSeconds": 3})
    run.wait("Finished", reason="DeadlineExceeded")
    assert_told(run, "deadline-exceeded")


def test_run_that_cannot_be_placed_is_told(apply: Apply) -> None:
    run = apply(NAMESPACE, "tells-refused", placement={"pool": "a100"})
    run.wait("Accepted", "False", "CannotBePlaced")
    assert_told(run, "cannot-be-placed")


def test_back_off_is_told(apply: Apply) -> None:
    run = apply(NAMESPACE, "tells-backoff", **ending("200ms", exit_code=1))
    run.wait("Progressing", reason="BackingOff")
    assert_told(run, "backing-off")
    run.delete()


def test_pause_is_told(apply: Apply) -> None:
    run = apply(NAMESPACE, "tells-pause", runPolicy={"suspend": True})
    run.wait("Progressing", "False", "Suspended")
    assert_told(run, "suspended")
