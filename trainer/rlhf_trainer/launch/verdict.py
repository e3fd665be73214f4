"""Turns the ends of all ranks into one outcome, one exit code and one result. Pure.

A rank's own verdict goes before its exit code. torchrun ends the siblings of a failed rank by
SIGTERM: such an end says nothing, neither of a crash nor of a preemption.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_trainer.contract import Outcome, Phase, Result, combine
from rlhf_trainer.contract.outcomes import MAIN_RANK_FAILED

_UNKNOWN_CAUSE = 1
"""Exit code of a crash that has none of its own."""

_LARGEST_EXIT_CODE = 255

_SIGTERM_CODES = (-signal.SIGTERM, 128 + signal.SIGTERM)

_FOLLOWS_FROM_OTHERS = (signal.SIGTERM, signal.SIGABRT)
"""Signals that end a rank because of what happened to another one."""

_REASON_KILLED = "Killed"


@dataclass(frozen=True)
class RankEnd:
    """What is known about the end of one rank."""

    rank: int
    result: Result | None = None
    """Its own verdict, if it wrote one."""
    exit_code: int | None = None
    """Negative: the signal that ended it. None: not known, torchrun does not tell after SIGTERM."""


@dataclass(frozen=True)
class Circumstances:
    """What the launcher knows besides."""

    phase: Phase
    log: str
    """Where the ranks' output stands, for the message."""
    terminated: bool = False
    """Whether the launcher itself received SIGTERM."""
    several_nodes: bool = False
    agent_error: str = ""
    """Why no rank could be started or watched."""
    step: int = 0
    """Last step that is known from elsewhere."""


@dataclass(frozen=True)
class Verdict:
    """How the attempt ended."""

    exit_code: int
    result: Result


def judge(ends: Sequence[RankEnd], circumstances: Circumstances) -> Verdict:
    """Return the verdict on an attempt.

    `ends`: in the order in which they were seen; other nodes' ranks only with what they wrote.
    """
    outcomes = {end.rank: _outcome(end, circumstances) for end in ends}
    outcome = combine(outcome for outcome in outcomes.values() if outcome is not None)
    speakers = [end for end in ends if outcomes[end.rank] is outcome]
    if outcome is Outcome.CRASHED:
        return _crash(ends, speakers, circumstances)
    written = {end.rank: end.result for end in speakers if end.result is not None}
    if written:
        return Verdict(outcome.exit_code, written[min(written)])
    return Verdict(outcome.exit_code, _unspoken(ends, speakers[0], outcome, circumstances))


def _outcome(end: RankEnd, circumstances: Circumstances) -> Outcome | None:
    """Return what one rank's end stands for; None if it says nothing."""
    if end.result is not None:
        outcome = end.result.outcome
        # Ranks agree on a preemption across nodes: the SIGTERM may have gone to another launcher.
        preempted = circumstances.terminated or circumstances.several_nodes
    else:
        outcome = _outcome_of_code(end.exit_code)
        preempted = circumstances.terminated
    if outcome is Outcome.PREEMPTED and not preempted:
        return None
    return outcome


def _outcome_of_code(code: int | None) -> Outcome:
    if code is None or code in _SIGTERM_CODES:
        return Outcome.PREEMPTED
    outcome = Outcome.from_exit_code(code)
    # A phase that is complete says so: a bare exit(0) may come from anywhere.
    return Outcome.CRASHED if outcome is Outcome.COMPLETED else outcome


def _unspoken(
    ends: Sequence[RankEnd], speaker: RankEnd, outcome: Outcome, circumstances: Circumstances
) -> Result:
    if outcome is Outcome.PREEMPTED:
        message = (
            "SIGTERM arrived before any rank could save; "
            "the next attempt goes on from the last checkpoint"
        )
    else:
        message = (
            f"rank {speaker.rank} exited with {speaker.exit_code} ({outcome}) without saying why; "
            f"read {circumstances.log}"
        )
    return _result(ends, outcome, message, circumstances)


def _crash(
    ends: Sequence[RankEnd], crashed: Sequence[RankEnd], circumstances: Circumstances
) -> Verdict:
    if not crashed:
        message = circumstances.agent_error or (
            "a rank was ended by a SIGTERM that its launcher did not get; look for who sent it"
        )
        return Verdict(
            _UNKNOWN_CAUSE, _result(ends, Outcome.CRASHED, message, circumstances, reason="")
        )
    culprit = min(crashed, key=_suspicion)
    if culprit.result is not None:
        cause, reason = culprit.result.message, culprit.result.reason
    else:
        cause, reason = _cause(culprit.exit_code)
    message = f"rank {culprit.rank}: {cause}; read {circumstances.log}"
    result = _result(ends, Outcome.CRASHED, message, circumstances, reason=reason)
    return Verdict(_crash_code(culprit.exit_code), result)


def _suspicion(end: RankEnd) -> tuple[bool, bool]:
    """Sort ranks that a signal took first: the others' errors mostly follow from their loss.

    Last are those that only say that another one failed.
    """
    code = end.exit_code
    follows = code is None or code >= 0 or -code in _FOLLOWS_FROM_OTHERS
    return end.result is not None and end.result.reason == MAIN_RANK_FAILED, follows


def _cause(code: int | None) -> tuple[str, str]:
    if not code:
        return "ended without saying how", ""
    if code > 0:
        return f"exited with {code}", ""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL:
        hint = "most often for want of memory: give the pod more, or lower tokensPerMicroBatch"
        return f"was killed by {name}, {hint}", _REASON_KILLED
    return f"was killed by {name}", _REASON_KILLED


def _crash_code(code: int | None) -> int:
    """Keep the rank's own code where it cannot be taken for another outcome."""
    if code is None or code == 0:
        return _UNKNOWN_CAUSE
    shown = 128 - code if code < 0 else code
    known = Outcome.from_exit_code(shown) is not Outcome.CRASHED
    return _UNKNOWN_CAUSE if known or shown > _LARGEST_EXIT_CODE else shown


def _result(
    ends: Sequence[RankEnd],
    outcome: Outcome,
    message: str,
    circumstances: Circumstances,
    *,
    reason: str = "",
) -> Result:
    """Build a result in the launcher's own words, with the numbers that the ranks left."""
    written = [end.result for end in sorted(ends, key=lambda end: end.rank) if end.result]
    certified = [result.certified_step for result in written if result.certified_step is not None]
    return Result(
        phase=circumstances.phase,
        outcome=outcome,
        message=message,
        reason=reason,
        step=max([circumstances.step, *(result.step for result in written)]),
        certified_step=max(certified, default=None),
        metrics=written[0].metrics if written else {},
    )
