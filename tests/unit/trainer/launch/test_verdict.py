import signal
from dataclasses import replace
from typing import Any

import pytest

from rlhf_trainer.contract import Outcome, Phase, Result
from rlhf_trainer.contract.outcomes import MAIN_RANK_FAILED
from rlhf_trainer.launch.verdict import Circumstances, RankEnd, judge

ALONE = Circumstances(phase=Phase.PPO, log="log.txt")
TERMINATED = replace(ALONE, terminated=True)
SEVERAL_NODES = replace(ALONE, several_nodes=True)

TERM, KILL, SEGV, ABRT = (
    -signal.SIGTERM,
    -signal.SIGKILL,
    -signal.SIGSEGV,
    -signal.SIGABRT,
)


def said(rank: int, outcome: Outcome, exit_code: int | None = None, **more: Any) -> RankEnd:
    result = Result(phase=Phase.PPO, outcome=outcome, message=f"said by {rank}", **more)
    return RankEnd(rank, result, outcome.exit_code if exit_code is None else exit_code)


def unknown(rank: int, outcome: Outcome | None = None) -> RankEnd:
    """What is known after SIGTERM: no exit codes."""
    if outcome is None:
        return RankEnd(rank)
    return replace(said(rank, outcome), exit_code=None)


def silent(rank: int, exit_code: int) -> RankEnd:
    return RankEnd(rank, None, exit_code)


O = Outcome  # noqa: E741 - a table reads better so


@pytest.mark.parametrize(
    ("ends", "circumstances", "code", "outcome"),
    [
        pytest.param([said(0, O.COMPLETED)], ALONE, 0, O.COMPLETED, id="completed"),
        pytest.param([said(0, O.STOPPED)], ALONE, 10, O.STOPPED, id="stopped"),
        pytest.param([said(0, O.GATE_FAILED)], ALONE, 11, O.GATE_FAILED, id="gate"),
        pytest.param([said(0, O.INVALID)], ALONE, 20, O.INVALID, id="invalid"),
        pytest.param([said(0, O.OUT_OF_MEMORY)], ALONE, 21, O.OUT_OF_MEMORY, id="memory"),
        pytest.param([said(0, O.DIVERGED)], ALONE, 30, O.DIVERGED, id="diverged"),
        pytest.param(
            [silent(1, 20), said(0, O.OUT_OF_MEMORY)], ALONE, 20, O.INVALID, id="20 over 21"
        ),
        pytest.param(
            [said(0, O.DIVERGED), said(1, O.OUT_OF_MEMORY)],
            ALONE,
            21,
            O.OUT_OF_MEMORY,
            id="21 over 30",
        ),
        pytest.param(
            [said(0, O.STOPPED), said(1, O.DIVERGED)], ALONE, 30, O.DIVERGED, id="30 over 10"
        ),
        pytest.param(
            [said(0, O.GATE_FAILED), said(1, O.STOPPED)], ALONE, 10, O.STOPPED, id="10 over 11"
        ),
        pytest.param(
            [silent(0, 7), said(1, O.GATE_FAILED)], ALONE, 11, O.GATE_FAILED, id="11 over crash"
        ),
        pytest.param(
            [unknown(0, O.PREEMPTED), unknown(1, O.CRASHED)],
            TERMINATED,
            1,
            O.CRASHED,
            id="crash over 143",
        ),
        pytest.param(
            [unknown(0, O.COMPLETED), unknown(1, O.PREEMPTED)],
            TERMINATED,
            143,
            O.PREEMPTED,
            id="143 over completed",
        ),
        pytest.param(
            [said(0, O.INVALID), silent(1, TERM)],
            ALONE,
            20,
            O.INVALID,
            id="sibling ended by torchrun",
        ),
        pytest.param(
            [silent(1, 7), said(0, O.PREEMPTED)],
            ALONE,
            7,
            O.CRASHED,
            id="sibling saved after torchrun's SIGTERM",
        ),
        pytest.param(
            [silent(1, 7), silent(0, 143)], ALONE, 7, O.CRASHED, id="sibling exited with 143"
        ),
        pytest.param([silent(0, KILL)], ALONE, 137, O.CRASHED, id="killed"),
        pytest.param([silent(0, SEGV)], ALONE, 139, O.CRASHED, id="segmentation fault"),
        pytest.param([silent(0, 1)], ALONE, 1, O.CRASHED, id="exception"),
        pytest.param([silent(0, 255)], ALONE, 255, O.CRASHED, id="largest code"),
        pytest.param([silent(0, 0)], ALONE, 1, O.CRASHED, id="exit 0 without a word"),
        pytest.param([silent(0, 11)], ALONE, 11, O.GATE_FAILED, id="known code without a word"),
        pytest.param(
            [said(0, O.CRASHED, exit_code=10)], ALONE, 1, O.CRASHED, id="a crash with a known code"
        ),
        pytest.param([said(0, O.CRASHED, exit_code=7)], ALONE, 7, O.CRASHED, id="a crash's code"),
        pytest.param(
            [said(0, O.COMPLETED, exit_code=SEGV)], ALONE, 0, O.COMPLETED, id="died after its word"
        ),
        pytest.param([silent(0, TERM)], ALONE, 1, O.CRASHED, id="SIGTERM from elsewhere"),
        pytest.param(
            [said(0, O.PREEMPTED)], ALONE, 1, O.CRASHED, id="saved on SIGTERM from elsewhere"
        ),
        pytest.param(
            [said(0, O.PREEMPTED)],
            SEVERAL_NODES,
            143,
            O.PREEMPTED,
            id="another node got the SIGTERM",
        ),
        pytest.param([silent(0, TERM)], SEVERAL_NODES, 1, O.CRASHED, id="several nodes, no word"),
        pytest.param(
            [silent(0, TERM), said(5, O.INVALID)],
            SEVERAL_NODES,
            20,
            O.INVALID,
            id="another node's rank knows",
        ),
        pytest.param(
            [unknown(0, O.PREEMPTED), unknown(1, O.PREEMPTED)],
            TERMINATED,
            143,
            O.PREEMPTED,
            id="preempted",
        ),
        pytest.param([unknown(0), unknown(1)], TERMINATED, 143, O.PREEMPTED, id="no time to save"),
        pytest.param([unknown(0, O.COMPLETED)], TERMINATED, 0, O.COMPLETED, id="SIGTERM too late"),
        pytest.param(
            [unknown(0), unknown(1, O.STOPPED)], TERMINATED, 10, O.STOPPED, id="SIGTERM after stop"
        ),
        pytest.param([silent(0, KILL)], TERMINATED, 137, O.CRASHED, id="SIGTERM after a crash"),
        pytest.param(
            [unknown(0)], replace(ALONE, agent_error="no port"), 1, O.CRASHED, id="agent failed"
        ),
        pytest.param([], ALONE, 1, O.CRASHED, id="nothing known"),
    ],
)
def test_judge_ends_give_code_and_outcome(
    ends: list[RankEnd], circumstances: Circumstances, code: int, outcome: Outcome
) -> None:
    verdict = judge(ends, circumstances)
    assert (verdict.exit_code, verdict.result.outcome) == (code, outcome)
    assert verdict.result.phase is Phase.PPO
    assert verdict.result.message


def test_judge_rank_0_speaks_for_ranks_of_one_outcome() -> None:
    verdict = judge([said(1, O.STOPPED), said(0, O.STOPPED)], ALONE)
    assert verdict.result.message == "said by 0"


def test_judge_crash_names_rank_cause_and_log() -> None:
    verdict = judge([silent(3, 7), said(0, O.CRASHED, exit_code=1)], ALONE)
    assert verdict.result.message == "rank 3: exited with 7; read log.txt"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (KILL, "rank 1: was killed by SIGKILL, most often for want of memory: "),
        (SEGV, "rank 1: was killed by SIGSEGV; read log.txt"),
        (-64, "rank 1: was killed by SIGRTMAX; read log.txt"),
        (-33, "rank 1: was killed by signal 33; read log.txt"),
    ],
)
def test_judge_blames_the_killed_rank_not_those_that_lost_it(code: int, message: str) -> None:
    lost = said(0, O.CRASHED, exit_code=1)
    verdict = judge([lost, silent(2, ABRT), silent(1, code)], ALONE)
    assert verdict.result.message.startswith(message)
    assert verdict.result.reason == "Killed"
    assert verdict.exit_code == 128 - code


def test_judge_crash_keeps_the_rank_s_own_words() -> None:
    verdict = judge([said(1, O.CRASHED, exit_code=1, reason="KeyError")], ALONE)
    assert verdict.result.message == "rank 1: said by 1; read log.txt"
    assert verdict.result.reason == "KeyError"


def test_judge_crash_keeps_the_numbers_that_are_known() -> None:
    preempted = said(0, O.PREEMPTED, step=12, certified_step=11, metrics={"klNats": 4.0})
    result = judge([silent(1, 7), preempted], replace(ALONE, step=13)).result
    assert (result.step, result.certified_step) == (13, 11)
    assert result.metrics == {"klNats": 4.0}


def test_judge_agent_error_is_the_message() -> None:
    circumstances = replace(ALONE, agent_error="node 1 of 2 could not run its ranks")
    assert judge([unknown(1)], circumstances).result.message == circumstances.agent_error


def test_rank_that_only_says_that_another_one_failed_is_not_the_cause() -> None:
    follower = said(1, Outcome.CRASHED, reason=MAIN_RANK_FAILED)
    cause = said(0, Outcome.CRASHED, reason="WorkspaceUnwritable")
    for ends in ([follower, cause], [cause, follower]):
        result = judge(ends, ALONE).result
        assert result.reason == "WorkspaceUnwritable"
        assert result.message.startswith("rank 0: said by 0")
