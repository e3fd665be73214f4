from datetime import datetime

import pytest

from rlhf_operator.api import AttemptStop, RunOutcome
from rlhf_operator.decide import Ended
from rlhf_operator.decide.hang import HUNG
from rlhf_operator.decide.outcome import PhaseComplete, RunEnds, TryAgain, describe, judge
from rlhf_operator.decide.suspend import SUSPENDED
from rlhf_trainer.contract import Outcome, Phase, Result


@pytest.mark.parametrize(
    ("code", "disrupted", "reason", "kind", "counted"),
    [
        pytest.param(0, False, None, PhaseComplete, None, id="completed"),
        pytest.param(0, True, None, PhaseComplete, None, id="completed while disrupted"),
        pytest.param(0, False, HUNG, PhaseComplete, None, id="completed while stopped"),
        pytest.param(10, False, None, RunEnds, None, id="stopped"),
        pytest.param(11, False, None, RunEnds, None, id="gate"),
        pytest.param(20, False, SUSPENDED, RunEnds, None, id="invalid while paused"),
        pytest.param(21, False, None, RunEnds, None, id="memory"),
        pytest.param(30, True, None, RunEnds, None, id="diverged while disrupted"),
        pytest.param(143, False, None, TryAgain, False, id="preempted"),
        pytest.param(143, False, HUNG, TryAgain, True, id="preempted by our stop of a hang"),
        pytest.param(143, False, SUSPENDED, TryAgain, False, id="preempted by our pause"),
        pytest.param(137, False, HUNG, TryAgain, True, id="killed by our stop of a hang"),
        pytest.param(137, False, SUSPENDED, TryAgain, False, id="killed by our pause"),
        pytest.param(1, False, None, TryAgain, True, id="crashed"),
        pytest.param(137, False, None, TryAgain, True, id="killed"),
        pytest.param(137, True, None, TryAgain, False, id="evicted"),
        pytest.param(77, False, None, TryAgain, True, id="unknown code"),
        pytest.param(None, False, None, TryAgain, True, id="no code"),
        pytest.param(None, True, None, TryAgain, False, id="vanished"),
    ],
)
def test_judge_end_of_an_attempt_is_by_the_table(
    code: int | None,
    disrupted: bool,  # noqa: FBT001 -- a column of the table
    reason: str | None,
    kind: type,
    counted: bool | None,  # noqa: FBT001 -- a column of the table
    noon: datetime,
) -> None:
    stop = AttemptStop(reason=reason, time=noon) if reason else None
    verdict = judge(Ended(code, disrupted=disrupted), stop)
    assert isinstance(verdict, kind)
    assert getattr(verdict, "counted", None) is counted


@pytest.mark.parametrize("outcome", [o for o in RunOutcome if o.value in list(Outcome)])
def test_run_outcome_of_a_phase_has_the_phase_s_exit_code(outcome: RunOutcome) -> None:
    assert outcome.exit_code == Outcome(outcome.value).exit_code


def test_run_outcomes_have_different_exit_codes() -> None:
    codes = [outcome.exit_code for outcome in RunOutcome]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        pytest.param(Ended(3), "it ended with exit code 3", id="code"),
        pytest.param(Ended(None), "its processes are gone and left no result", id="nothing"),
        pytest.param(
            Ended(1, Result(phase=Phase.SFT, outcome=Outcome.CRASHED, message="disk full")),
            "disk full",
            id="message",
        ),
        pytest.param(
            Ended(1, Result(phase=Phase.SFT, outcome=Outcome.CRASHED, message="")),
            "it ended with exit code 1",
            id="empty message",
        ),
    ],
)
def test_describe_says_what_is_known(ended: Ended, words: str) -> None:
    assert describe(ended) == words
