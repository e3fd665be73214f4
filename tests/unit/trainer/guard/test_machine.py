"""The guard's decisions: a table of traces, then what holds for every trace."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.guard import (
    Action,
    EntropyRule,
    GuardRules,
    GuardState,
    KLRule,
    LengthRule,
    Measurement,
    NonFinite,
    Reason,
    Signal,
    Verdict,
    observe,
)

CONTINUE, WARN, REDUCE, STOP = Action


def kl_rules(action: Action = STOP, consecutive_steps: int = 2) -> GuardRules:
    return GuardRules(
        KLRule(limit_nats=15, ceiling_nats=30, consecutive_steps=consecutive_steps, action=action)
    )


def measured(kl: float = 1, entropy: float = 3, length: float = 20) -> Measurement:
    return Measurement(kl, entropy, length)


def judge(
    rules: GuardRules, state: GuardState, step: int, measurement: Measurement
) -> tuple[GuardState, Verdict]:
    state, verdict = observe(rules, state, step, measurement)
    assert isinstance(verdict, Verdict)
    return state, verdict


def run(rules: GuardRules, trace: Sequence[Measurement]) -> tuple[GuardState, list[Verdict]]:
    state, verdicts = GuardState(), []
    for step, measurement in enumerate(trace):
        state, verdict = judge(rules, state, step, measurement)
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.parametrize(
    ("action", "consecutive_steps", "trace", "expected"),
    [
        pytest.param(STOP, 2, [14, 15, 15], [CONTINUE] * 3, id="at-the-limit-is-inside"),
        pytest.param(STOP, 2, [16, 14, 16, 14], [CONTINUE] * 4, id="one-noisy-batch-is-forgiven"),
        pytest.param(STOP, 2, [16, 16], [CONTINUE, STOP], id="two-running-stop"),
        pytest.param(STOP, 2, [16, 16, 1, 1], [CONTINUE] + [STOP] * 3, id="a-stop-stays"),
        pytest.param(STOP, 1, [15.1], [STOP], id="one-step-suffices-if-asked"),
        pytest.param(STOP, 2, [30], [CONTINUE], id="at-the-ceiling-is-below-it"),
        pytest.param(STOP, 2, [30.1], [STOP], id="above-the-ceiling-stops-at-once"),
        pytest.param(
            WARN,
            2,
            [16] * 5,
            [CONTINUE, WARN, CONTINUE, WARN, CONTINUE],
            id="warns-once-per-breach",
        ),
        pytest.param(
            REDUCE,
            2,
            [31, 31, 31, 31, 16, 31],
            [REDUCE, CONTINUE, REDUCE, CONTINUE, REDUCE, REDUCE],
            id="reduces-at-each-rise-above-the-ceiling-and-each-streak",
        ),
        pytest.param(WARN, 3, [16, 16, 14, 16, 16], [CONTINUE] * 5, id="a-good-step-ends-a-streak"),
    ],
)
def test_observe_kl_trace_acts_as_stated(
    action: Action, consecutive_steps: int, trace: list[float], expected: list[Action]
) -> None:
    _, verdicts = run(kl_rules(action, consecutive_steps), [measured(kl=kl) for kl in trace])
    assert [verdict.action for verdict in verdicts] == expected


def test_observe_kl_limit_breach_explains_itself() -> None:
    _, verdicts = run(kl_rules(), [measured(kl=16), measured(kl=17.25)])
    assert (verdicts[-1].signal, verdicts[-1].reason) == (Signal.KL, Reason.KL_LIMIT_EXCEEDED)
    assert verdicts[-1].message == (
        "KL was above the limit of 15 nats per response in 2 steps running, 17.25 at step 1: "
        "training stops; raise ppo.kl.coefficient, lower ppo.learningRate, or allow more KL by "
        "guard.kl"
    )


def test_observe_ceiling_breach_names_the_ceiling() -> None:
    _, verdicts = run(kl_rules(), [measured(kl=31)])
    assert verdicts[0].reason is Reason.KL_CEILING_EXCEEDED
    assert "above the ceiling of 30 nats per response, 31 at step 0" in verdicts[0].message


def test_observe_continue_carries_no_cause() -> None:
    _, verdicts = run(kl_rules(), [measured()])
    assert (verdicts[0].signal, verdicts[0].reason, verdicts[0].message) == (None, None, "")


def test_observe_low_entropy_breaches_the_floor() -> None:
    rules = GuardRules(kl_rules().kl, entropy=EntropyRule(0.5, 2, WARN))
    _, verdicts = run(rules, [measured(entropy=value) for value in (0.5, 0.4, 0.3)])
    assert [verdict.action for verdict in verdicts] == [CONTINUE, CONTINUE, WARN]
    assert verdicts[-1].reason is Reason.ENTROPY_BELOW_FLOOR
    assert "below the floor of 0.5 nats per token in 2 steps running" in verdicts[-1].message


def test_observe_length_is_compared_with_the_first_step() -> None:
    rules = GuardRules(kl_rules().kl, length=LengthRule(2, 2, STOP))
    _, verdicts = run(rules, [measured(length=value) for value in (20, 40, 41, 42)])
    assert [verdict.action for verdict in verdicts] == [CONTINUE] * 3 + [STOP]
    assert verdicts[-1].reason is Reason.RESPONSE_TOO_LONG
    assert "longer than 40 tokens, 2 times the first step's mean" in verdicts[-1].message


def test_observe_length_rule_added_later_still_knows_the_first_step() -> None:
    state, _ = judge(kl_rules(), GuardState(), 0, measured(length=10))
    rules = GuardRules(kl_rules().kl, length=LengthRule(2, 1, WARN))
    _, verdict = judge(rules, state, 1, measured(length=21))
    assert verdict.action is WARN


def test_observe_several_signals_the_strongest_action_wins() -> None:
    rules = GuardRules(
        KLRule(limit_nats=15, ceiling_nats=30, consecutive_steps=1, action=WARN),
        entropy=EntropyRule(0.5, 1, WARN),
        length=LengthRule(1.5, 1, STOP),
    )
    state, _ = judge(rules, GuardState(), 0, measured())
    state, verdict = judge(rules, state, 1, measured(kl=16, entropy=0.1, length=31))
    assert [breach.signal for breach in verdict.breaches] == [
        Signal.LENGTH,
        Signal.KL,
        Signal.ENTROPY,
    ]
    assert verdict.action is STOP
    assert state.stop == verdict.breaches[0]


def test_observe_missing_steps_neither_add_nor_end() -> None:
    state, _ = judge(kl_rules(), GuardState(), 3, measured(kl=16))
    state, verdict = judge(kl_rules(), state, 9, measured(kl=16))
    assert verdict.action is STOP


def test_observe_missing_signal_leaves_its_streak() -> None:
    rules = GuardRules(kl_rules().kl, entropy=EntropyRule(0.5, 2, WARN))
    state, _ = judge(rules, GuardState(), 0, measured(entropy=0.1))
    state, verdict = judge(rules, state, 1, Measurement(1, None, None))
    assert verdict.action is CONTINUE
    _, verdict = judge(rules, state, 2, measured(entropy=0.1))
    assert verdict.action is WARN


@pytest.mark.parametrize(
    ("measurement", "signal"),
    [
        pytest.param(measured(kl=math.nan), Signal.KL, id="kl-nan"),
        pytest.param(measured(kl=math.inf), Signal.KL, id="kl-infinite"),
        pytest.param(measured(entropy=math.nan), Signal.ENTROPY, id="entropy-nan"),
        pytest.param(measured(length=math.inf), Signal.LENGTH, id="length-infinite"),
    ],
)
def test_observe_no_number_is_no_verdict(measurement: Measurement, signal: Signal) -> None:
    before, _ = judge(kl_rules(), GuardState(), 6, measured(kl=16))
    after, verdict = observe(kl_rules(), before, 7, measurement)
    assert isinstance(verdict, NonFinite)
    assert verdict.signal is signal
    assert "at step 7: training has diverged" in verdict.message
    assert after == before


RULES = st.builds(
    GuardRules,
    kl=st.builds(
        KLRule,
        limit_nats=st.just(15.0),
        ceiling_nats=st.sampled_from([15.0, 30.0]),
        consecutive_steps=st.integers(1, 4),
        action=st.sampled_from([WARN, REDUCE, STOP]),
    ),
    entropy=st.none()
    | st.builds(
        EntropyRule, st.just(0.5), st.integers(1, 4), st.sampled_from([WARN, REDUCE, STOP])
    ),
    length=st.none()
    | st.builds(LengthRule, st.just(1.5), st.integers(1, 4), st.sampled_from([WARN, REDUCE, STOP])),
)
MEASUREMENTS = st.builds(
    Measurement,
    st.floats(-5, 40),
    st.none() | st.floats(0, 5),
    st.none() | st.floats(1, 100),
)
TRACES = st.lists(MEASUREMENTS, max_size=30)


@given(RULES, TRACES)
def test_observe_state_survives_json_at_every_step(
    rules: GuardRules, trace: list[Measurement]
) -> None:
    state = GuardState()
    for step, measurement in enumerate(trace):
        state, _ = judge(rules, state, step, measurement)
        assert GuardState.from_json(state.to_json()) == state


@given(RULES, TRACES, st.data())
def test_observe_a_step_seen_before_changes_nothing(
    rules: GuardRules, trace: list[Measurement], data: st.DataObject
) -> None:
    state, _ = run(rules, trace)
    if not trace:
        return
    step = data.draw(st.integers(0, len(trace) - 1))
    again, verdict = judge(rules, state, step, data.draw(MEASUREMENTS))
    assert again == state
    assert verdict.action is (STOP if state.stop else CONTINUE)


@given(RULES, TRACES)
def test_observe_the_first_stop_absorbs(rules: GuardRules, trace: list[Measurement]) -> None:
    _, verdicts = run(rules, trace)
    stops = [verdict for verdict in verdicts if verdict.action is STOP]
    first = next((i for i, verdict in enumerate(verdicts) if verdict.action is STOP), len(verdicts))
    assert len(stops) == len(verdicts) - first
    assert len({stop.message for stop in stops}) <= 1


@given(RULES, TRACES)
def test_observe_certifies_by_the_limit_alone(rules: GuardRules, trace: list[Measurement]) -> None:
    _, verdicts = run(rules, trace)
    assert [verdict.within_limit for verdict in verdicts] == [
        measurement.kl_nats <= rules.kl.limit_nats for measurement in trace
    ]


@given(st.integers(1, 5), st.lists(st.floats(0, 30), max_size=40))
def test_observe_stops_exactly_at_the_first_full_streak(
    consecutive_steps: int, trace: list[float]
) -> None:
    _, verdicts = run(kl_rules(STOP, consecutive_steps), [measured(kl=kl) for kl in trace])
    windows = range(consecutive_steps, len(trace) + 1)
    first = next(
        (end - 1 for end in windows if min(trace[end - consecutive_steps : end]) > 15), len(trace)
    )
    assert [verdict.action is STOP for verdict in verdicts] == [
        step >= first for step in range(len(trace))
    ]


@given(RULES, TRACES)
def test_observe_reduces_at_most_once_per_streak_and_rise(
    rules: GuardRules, trace: list[Measurement]
) -> None:
    _, verdicts = run(rules, trace)
    kl_breaches = [
        breach
        for verdict in verdicts
        for breach in verdict.breaches
        if breach.signal is Signal.KL and breach.action is not STOP
    ]
    kls = [measurement.kl_nats for measurement in trace]
    above = sum(kl > rules.kl.limit_nats for kl in kls)
    rises = sum(
        kl > rules.kl.ceiling_nats >= before for before, kl in zip([0.0, *kls], kls, strict=False)
    )
    assert len(kl_breaches) <= above // rules.kl.consecutive_steps + rises
