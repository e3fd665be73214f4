"""What the end of a run tells in a cluster: why, where the policy lies, and what to type next."""

from pathlib import PurePosixPath

from rlhf_operator.api import PhaseState, RLHFRun, RunOutcome, RunStatus
from rlhf_operator.api.run_policy import KeepJobs
from rlhf_trainer.contract import Phase

AGAIN = "to run it again, create another run"


def told(run: RLHFRun, status: RunStatus) -> str:
    """Return the message of a run that has ended.

    `rlhf run`, which knows no namespaces, tells the rest itself.
    """
    why = status.stop.message if status.stop else "every phase is complete"
    if not run.metadata.namespace:
        return why
    again = "" if status.outcome is RunOutcome.COMPLETED else AGAIN
    command = f"next: {_command(run, status)}"
    parts = (why, _where(status), _policy(run, status), again, command)
    return "; ".join(part for part in parts if part)


def _where(status: RunStatus) -> str:
    stop = status.stop
    if stop is None or stop.phase is None:
        return ""
    return (
        f"it was in {stop.phase}" if stop.step is None else f"{stop.phase} was at step {stop.step}"
    )


def _policy(run: RLHFRun, status: RunStatus) -> str:
    """Say where the policy lies on the volume, if there is one to use."""
    ppo = next((phase for phase in status.phases if phase.phase is Phase.PPO), None)
    folder = (status.stop and status.stop.checkpoint) or (ppo and ppo.model_path)
    if ppo is None or not folder:
        return ""
    certified = "" if ppo.certified_step is None else f", certified at step {ppo.certified_step},"
    sft = next((phase for phase in status.phases if phase.phase is Phase.SFT), None)
    is_data = sft is not None and sft.state is PhaseState.SKIPPED and folder == sft.model_path
    path = PurePosixPath("data" if is_data else run.root_folder, folder)
    return f"the policy{certified} is in {path} on claim {run.claim_name}"


def _command(run: RLHFRun, status: RunStatus) -> str:
    """Return what shows more: the log of the last pod where it is still there."""
    name, namespace = run.metadata.name, run.metadata.namespace
    begun = [phase for phase in status.phases if phase.attempts]
    pod = begun[-1].pod if begun else None
    if pod is not None and run.spec.run_policy.keep_jobs is not KeepJobs.NONE:
        return f"kubectl logs {pod} -n {namespace}"
    return f"kubectl get events -n {namespace} --for rlhfrun/{name}"
