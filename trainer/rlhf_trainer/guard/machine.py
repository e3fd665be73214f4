"""The state machine: rules, state and one measurement in, the next state and a verdict out.

Consecutive means: in all steps that were observed in between. A step that nobody measured (the
operator may miss some) is no evidence either way, so it neither adds to a streak nor ends one.
Steps at or before the newest observed one are ignored: looking twice changes nothing.

A breach ends its streak, so a rule that only warns or slows down acts once, and again after as many
further steps. KL that rises above its ceiling is a breach at once; while it stays there, the streak
of steps above the limit goes on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rlhf_trainer.guard.rules import EntropyRule, GuardRules, KLRule, LengthRule
from rlhf_trainer.guard.state import GuardState
from rlhf_trainer.guard.verdict import Action, Breach, NonFinite, Reason, Signal, Verdict

_REMEDIES = {
    Signal.KL: "raise ppo.kl.coefficient, lower ppo.learningRate, or allow more KL by guard.kl",
    Signal.ENTROPY: "lower ppo.learningRate, raise ppo.kl.coefficient, or lower guard.entropy",
    Signal.LENGTH: "look for a taste for length in the reward model, or raise guard.length",
}

_CONSEQUENCES = {
    Action.CONTINUE: "training goes on",
    Action.WARN: "training goes on",
    Action.REDUCE_LEARNING_RATE: "the learning rate is halved",
    Action.STOP: "training stops",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one rollout showed, before its update. None is a signal that was not measured."""

    kl_nats: float
    """KL to the SFT reference: sum over response tokens, mean over the batch."""
    entropy_nats_per_token: float | None
    """Entropy of the policy, mean over response tokens."""
    response_length_tokens: float | None
    """Response length, mean over the batch."""


def observe(
    rules: GuardRules, state: GuardState, step: int, measurement: Measurement
) -> tuple[GuardState, Verdict | NonFinite]:
    """Judge the policy that `step` updates have made, as its rollout showed it.

    A measurement that is no number leaves the state as it is. After a stop, every finite
    measurement gets that same stop again.
    """
    if broken := _first_non_finite(step, measurement):
        return state, broken
    within_limit = measurement.kl_nats <= rules.kl.limit_nats
    if state.stop is not None:
        return state, Verdict(within_limit, (state.stop,))
    if state.last_step is not None and step <= state.last_step:
        return state, Verdict(within_limit)
    reference = state.reference_length_tokens
    if reference is None:
        reference = measurement.response_length_tokens
    kl_streak, kl = _judge_kl(rules.kl, state, step, measurement.kl_nats)
    entropy_streak, entropy = _judge_entropy(
        rules.entropy, state.entropy_streak, step, measurement.entropy_nats_per_token
    )
    length_streak, length = _judge_length(
        rules.length, state.length_streak, step, measurement.response_length_tokens, reference
    )
    breaches = _strongest_first(kl, entropy, length)
    seen = GuardState(
        last_step=step,
        kl_streak=kl_streak,
        kl_over_ceiling=measurement.kl_nats > rules.kl.ceiling_nats,
        entropy_streak=entropy_streak,
        length_streak=length_streak,
        reference_length_tokens=reference,
        stop=breaches[0] if breaches and breaches[0].action is Action.STOP else None,
    )
    return seen, Verdict(within_limit, breaches)


def _first_non_finite(step: int, measurement: Measurement) -> NonFinite | None:
    for signal, value in _signals(measurement):
        if not math.isfinite(value):
            return NonFinite(signal, step, value)
    return None


def _signals(measurement: Measurement) -> Iterator[tuple[Signal, float]]:
    yield Signal.KL, measurement.kl_nats
    if measurement.entropy_nats_per_token is not None:
        yield Signal.ENTROPY, measurement.entropy_nats_per_token
    if measurement.response_length_tokens is not None:
        yield Signal.LENGTH, measurement.response_length_tokens


def _strongest_first(*breaches: Breach | None) -> tuple[Breach, ...]:
    """Sort by strength; equally strong breaches keep their order."""
    found = [breach for breach in breaches if breach is not None]
    return tuple(sorted(found, key=lambda breach: -breach.action.strength))


def _judge_kl(
    rule: KLRule, state: GuardState, step: int, value: float
) -> tuple[int, Breach | None]:
    if value > rule.ceiling_nats and not state.kl_over_ceiling:
        text = f"KL rose above the ceiling of {rule.ceiling_nats:.4g} nats per response"
        return 0, _breach(Signal.KL, rule.action, Reason.KL_CEILING_EXCEEDED, step, text, value)
    streak = state.kl_streak + 1 if value > rule.limit_nats else 0
    if streak < rule.consecutive_steps:
        return streak, None
    text = f"KL was above the limit of {rule.limit_nats:.4g} nats per response {_times(streak)}"
    return 0, _breach(Signal.KL, rule.action, Reason.KL_LIMIT_EXCEEDED, step, text, value)


def _judge_entropy(
    rule: EntropyRule | None, streak: int, step: int, value: float | None
) -> tuple[int, Breach | None]:
    if rule is None or value is None:
        return streak, None
    streak = streak + 1 if value < rule.floor_nats_per_token else 0
    if streak < rule.consecutive_steps:
        return streak, None
    floor = f"{rule.floor_nats_per_token:.4g} nats per token"
    text = f"entropy was below the floor of {floor} {_times(streak)}"
    return 0, _breach(Signal.ENTROPY, rule.action, Reason.ENTROPY_BELOW_FLOOR, step, text, value)


def _judge_length(
    rule: LengthRule | None, streak: int, step: int, value: float | None, reference: float | None
) -> tuple[int, Breach | None]:
    if rule is None or value is None or reference is None:
        return streak, None
    limit = rule.growth_factor * reference
    streak = streak + 1 if value > limit else 0
    if streak < rule.consecutive_steps:
        return streak, None
    growth = f"{limit:.4g} tokens, {rule.growth_factor:.4g} times the first step's mean,"
    text = f"responses were longer than {growth} {_times(streak)}"
    return 0, _breach(Signal.LENGTH, rule.action, Reason.RESPONSE_TOO_LONG, step, text, value)


def _times(steps: int) -> str:
    return "in 1 step" if steps == 1 else f"in {steps} steps running"


def _breach(
    signal: Signal, action: Action, reason: Reason, step: int, text: str, value: float
) -> Breach:
    message = f"{text}, {value:.4g} at step {step}: {_CONSEQUENCES[action]}; {_REMEDIES[signal]}"
    return Breach(signal=signal, action=action, reason=reason, step=step, message=message)
