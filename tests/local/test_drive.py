"""Whole runs of the real local backend, its launcher replaced where timing and crashes matter."""

import os
import signal
from typing import Any

import pytest

from rlhf_operator.api import PhaseState, PhaseStatus, RunOutcome, RunStatus
from rlhf_operator.local import LocalBackend
from rlhf_operator.local.processes import members
from rlhf_trainer.contract import Phase

UNHURRIED = 20.0
"""Speed of the run's clock at which an attempt has seconds of the wall's to begin."""


def of(status: RunStatus, phase: Phase) -> PhaseStatus:
    return next(each for each in status.phases if each.phase is phase)


def states(status: RunStatus) -> list[str]:
    return [phase.state.value for phase in status.phases]


def test_drive_undisturbed_completes_every_phase(bench: Any) -> None:
    status = bench.drive()
    assert status.outcome is RunOutcome.COMPLETED
    assert states(status) == ["Succeeded"] * 5
    assert bench.stored().status == status
    assert of(status, Phase.PPO).metrics == {"klNats": 1.5}


def test_drive_without_the_user_s_choice_leaves_threads_to_the_launcher(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    bench.drive()
    assert "OMP_NUM_THREADS=None\n" in bench.attempt(Phase.SFT).log.read_text()


def test_drive_with_the_user_s_choice_keeps_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    bench.drive()
    assert "OMP_NUM_THREADS=3\n" in bench.attempt(Phase.SFT).log.read_text()


def test_drive_existing_models_skips_their_phases(bench: Any) -> None:
    status = bench.drive("spec.sft.from.path=sft", "spec.rewardModel.from.path=rm")
    assert states(status) == ["Succeeded", "Skipped", "Skipped", "Succeeded", "Succeeded"]
    assert of(status, Phase.SFT).model_path == "sft"
    assert not bench.attempt(Phase.SFT).root.exists()


def test_drive_crash_is_retried_after_a_wait(bench: Any) -> None:
    bench.plan(sft=[{"exit": 1}, {"exit": 0}])
    status = bench.drive()
    assert status.outcome is RunOutcome.COMPLETED
    assert of(status, Phase.SFT).attempts == 2
    reasons = [event.reason for event in bench.listener.told]
    assert reasons.count("AttemptEnded") == 1


def test_drive_crashes_without_progress_exhaust_retries(bench: Any) -> None:
    bench.plan(reward_model=[{"exit": 1}])
    status = bench.drive("spec.runPolicy.backoffLimit=1")
    assert status.outcome is RunOutcome.RETRIES_EXHAUSTED
    assert of(status, Phase.REWARD_MODEL).attempts == 2
    assert of(status, Phase.PPO).attempts == 0


def test_drive_crashes_with_checkpoints_do_not_exhaust_retries(bench: Any) -> None:
    acts = [{"exit": 1, "checkpoint": step} for step in (1, 2, 3)] + [{"exit": 0}]
    bench.plan(ppo=acts)
    status = bench.drive("spec.runPolicy.backoffLimit=0")
    assert status.outcome is RunOutcome.COMPLETED
    assert of(status, Phase.PPO).attempts == 4
    assert of(status, Phase.PPO).checkpoint_step == 3


@pytest.mark.parametrize(
    ("code", "outcome", "state"),
    [
        pytest.param(10, RunOutcome.STOPPED, PhaseState.STOPPED, id="stopped"),
        pytest.param(11, RunOutcome.GATE_FAILED, PhaseState.FAILED, id="gate"),
        pytest.param(20, RunOutcome.INVALID, PhaseState.FAILED, id="invalid"),
        pytest.param(21, RunOutcome.OUT_OF_MEMORY, PhaseState.FAILED, id="memory"),
        pytest.param(30, RunOutcome.DIVERGED, PhaseState.FAILED, id="diverged"),
    ],
)
def test_drive_verdict_of_a_phase_ends_the_run(
    bench: Any, code: int, outcome: RunOutcome, state: PhaseState
) -> None:
    bench.plan(sft=[{"exit": code}])
    status = bench.drive()
    assert status.outcome is outcome
    assert status.outcome.exit_code == code
    assert of(status, Phase.SFT).state is state
    assert of(status, Phase.REWARD_MODEL).attempts == 0


def test_drive_preempted_attempt_is_followed_at_once_and_uncounted(bench: Any) -> None:
    bench.plan(sft=[{"exit": 143}, {"exit": 143}, {"exit": 0}])
    status = bench.drive("spec.runPolicy.backoffLimit=0")
    assert status.outcome is RunOutcome.COMPLETED
    assert of(status, Phase.SFT).attempts == 3


def interrupt_in(phase: Phase, backend: LocalBackend, bench: Any) -> None:
    """Interrupt as soon as the phase has made steps."""

    def look(status: RunStatus) -> None:
        live = status.live
        if live and live.key.phase is phase and bench.attempt(phase).progress.exists():
            backend.suspended = True

    bench.listener.at_look = look


def test_drive_interrupted_pauses_and_goes_on_later(bench: Any) -> None:
    backend = bench.backend()
    bench.plan(ppo=[{"wait": True, "checkpoint": 2}, {"exit": 0}])
    interrupt_in(Phase.PPO, backend, bench)
    status = bench.drive(backend=backend)
    assert status.outcome is None
    assert status.phase == "Suspended"
    assert of(status, Phase.PPO).failures == 0
    assert not members(bench.workspace.root)

    status = bench.drive()
    assert status.outcome is RunOutcome.COMPLETED
    assert [phase.attempts for phase in status.phases] == [1, 1, 1, 2, 1]


def test_drive_ignored_signal_stays_ignored(bench: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    bench.listener.at_look = lambda _: os.kill(os.getpid(), signal.SIGHUP)
    try:
        status = bench.drive("spec.sft.from.path=a", "spec.rewardModel.from.path=b")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert status.outcome is RunOutcome.COMPLETED


def test_drive_deaf_launcher_is_killed_after_the_grace_period(bench: Any) -> None:
    backend = bench.backend()
    bench.plan(sft=[{"wait": True, "deaf": True, "ranks": 1}])
    interrupt_in(Phase.SFT, backend, bench)
    status = bench.drive("spec.runPolicy.terminationGracePeriodSeconds=30", backend=backend)
    assert status.outcome is None
    assert not members(bench.workspace.root)
    assert not bench.attempt(Phase.SFT).result.exists()


def test_drive_killed_launcher_takes_its_ranks_along_and_counts(bench: Any) -> None:
    bench.plan(sft=[{"wait": True, "ranks": 2}, {"exit": 0}])
    killed: list[int] = []

    def look(_: RunStatus) -> None:
        first = bench.attempt(Phase.SFT)
        pids = members(first.root)
        if not killed and len(pids) == 3:
            killed.append(min(pids))
            os.kill(killed[0], signal.SIGKILL)
        if bench.attempt(Phase.SFT, 2).config.exists():
            assert not members(first.root)

    bench.listener.at_look = look
    status = bench.drive()
    assert killed
    assert status.outcome is RunOutcome.COMPLETED
    assert of(status, Phase.SFT).last_failure == "attempt 1: it ended with exit code 137"


def test_drive_too_long_a_phase_ends_the_run(bench: Any) -> None:
    bench.plan(sft=[{"wait": True}])
    bench.speed = UNHURRIED
    status = bench.drive("spec.runPolicy.phaseDeadlineSeconds=100")
    assert status.outcome is RunOutcome.DEADLINE_EXCEEDED
    assert status.outcome.exit_code == 41
    assert of(status, Phase.SFT).state is PhaseState.STOPPED
    assert not members(bench.workspace.root)


def test_drive_hanging_attempt_is_ended_and_counted(bench: Any) -> None:
    bench.plan(sft=[{"wait": True}, {"exit": 0}])
    bench.speed = UNHURRIED
    status = bench.drive("spec.runPolicy.hangTimeoutSeconds=120")
    assert status.outcome is RunOutcome.COMPLETED
    assert of(status, Phase.SFT).last_failure == "attempt 1: it showed no sign of life"


def test_drive_configuration_of_an_attempt_is_the_training_half(bench: Any) -> None:
    bench.drive("spec.ppo.learningRate=1e-3")
    text = bench.attempt(Phase.PPO).config.read_text()
    assert '"learningRate": 0.001' in text
    assert "runPolicy" not in text


def test_drive_something_goes_wrong_leaves_no_process_behind(bench: Any) -> None:
    bench.plan(sft=[{"wait": True, "ranks": 1}])

    def look(_: RunStatus) -> None:
        if len(members(bench.attempt(Phase.SFT).root)) == 2:
            raise LookupError

    bench.listener.at_look = look
    with pytest.raises(LookupError):
        bench.drive()
    assert not members(bench.workspace.root)
