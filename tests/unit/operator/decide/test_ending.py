"""What the end of a run tells in a cluster, word by word."""

from collections.abc import Callable
from datetime import datetime

from rlhf_operator.api import RLHFRun, RunOutcome, RunStatus, StoppedBy, StopStatus
from rlhf_operator.api.status import PhaseState, PhaseStatus
from rlhf_operator.decide.ending import told
from rlhf_trainer.contract import Phase

Build = Callable[..., RLHFRun]

MODEL = "iteration-1/ppo/attempt-1/model"


def in_cluster(run: RLHFRun) -> RLHFRun:
    identity = {"namespace": "research", "uid": "4c440fa5-afd9-4fa2-96c5-c8ca1757eab0"}
    return run.model_copy(update={"metadata": run.metadata.evolve(**identity)})


def ppo(**changes: object) -> PhaseStatus:
    base = PhaseStatus(iteration=1, phase=Phase.PPO, state=PhaseState.STOPPED, attempts=1)
    return base.evolve(job="demo-i1-ppo-a1", **changes)


POD = "demo-i1-ppo-a1-worker-0"


def stop(noon: datetime, by: StoppedBy, **changes: object) -> StopStatus:
    return StopStatus(
        outcome=RunOutcome.STOPPED,
        reason="KLLimitExceeded",
        by=by,
        message="KL of 14 is over its limit of 12",
        time=noon,
        iteration=1,
        phase=Phase.PPO,
        step=7,
        **changes,
    )


def test_stop_by_the_trainer_names_step_policy_claim_and_log(
    build_run: Build, noon: datetime
) -> None:
    status = RunStatus(
        outcome=RunOutcome.STOPPED,
        stop=stop(noon, StoppedBy.TRAINER, checkpoint=MODEL),
        phases=(ppo(certified_step=6, model_path=MODEL, pod=POD),),
    )
    assert told(in_cluster(build_run()), status) == (
        "KL of 14 is over its limit of 12; PPO was at step 7; the policy, certified at step 6, is "
        "in demo-4c440fa5/iteration-1/ppo/attempt-1/model on claim demo-workspace; "
        "to run it again, create another run; "
        "next: kubectl logs demo-i1-ppo-a1-worker-0 -n research"
    )


def test_stop_from_outside_has_no_pod_to_ask(build_run: Build, noon: datetime) -> None:
    status = RunStatus(
        outcome=RunOutcome.STOPPED, stop=stop(noon, StoppedBy.OPERATOR), phases=(ppo(),)
    )
    assert told(in_cluster(build_run()), status) == (
        "KL of 14 is over its limit of 12; PPO was at step 7; "
        "to run it again, create another run; "
        "next: kubectl get events -n research --for rlhfrun/demo"
    )


def test_nothing_is_said_of_logs_that_are_not_kept(build_run: Build, noon: datetime) -> None:
    run = in_cluster(build_run("spec.runPolicy.keepJobs=None"))
    status = RunStatus(
        outcome=RunOutcome.STOPPED, stop=stop(noon, StoppedBy.TRAINER), phases=(ppo(pod=POD),)
    )
    assert "kubectl get events" in told(run, status)


def test_complete_run_names_its_policy(build_run: Build) -> None:
    done = ppo(state=PhaseState.SUCCEEDED, certified_step=25, model_path=MODEL, pod=POD)
    status = RunStatus(outcome=RunOutcome.COMPLETED, phases=(done,))
    run = in_cluster(build_run("spec.workspace.claimName=shared"))
    assert told(run, status).startswith(
        "every phase is complete; the policy, certified at step 25, is in demo-4c440fa5/"
    )
    assert "on claim shared; next: kubectl logs" in told(run, status)


def test_one_machine_is_told_the_cause_alone(build_run: Build, noon: datetime) -> None:
    status = RunStatus(
        outcome=RunOutcome.STOPPED, stop=stop(noon, StoppedBy.TRAINER), phases=(ppo(),)
    )
    assert told(build_run(), status) == "KL of 14 is over its limit of 12"


def test_certified_policy_that_was_brought_along_lies_below_the_data(
    build_run: Build, noon: datetime
) -> None:
    sft = PhaseStatus(iteration=1, phase=Phase.SFT, state=PhaseState.SKIPPED, model_path="mine")
    status = RunStatus(
        outcome=RunOutcome.STOPPED,
        stop=stop(noon, StoppedBy.OPERATOR, checkpoint="mine"),
        phases=(sft, ppo(certified_step=0)),
    )
    assert "certified at step 0, is in data/mine on claim" in told(in_cluster(build_run()), status)
