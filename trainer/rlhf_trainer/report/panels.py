"""The parts of a report that are no charts: tiles, phases, the comparison with SFT. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.report.curves import kl_limit, kl_target
from rlhf_trainer.report.facts import PhaseFacts, RunFacts, Sample
from rlhf_trainer.report.formats import capitalised, duration, number, percent, score
from rlhf_trainer.report.story import Tone

_NEAR = 0.8
"""Share of the KL limit from which a tile warns."""

_EVEN = 0.5
"""Win rate of a policy that is as good as SFT."""


@dataclass(frozen=True)
class Meter:
    """A bar from 0 to 1."""

    share: float
    low: float | None = None
    """Ends of an interval around the share."""
    high: float | None = None
    tick: float | None = None
    """A value worth comparing with."""


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    label: str
    value: str = ""
    """Empty where it is not known."""
    unit: str = ""
    detail: str = ""
    tone: Tone = Tone.NEUTRAL
    meter: Meter | None = None
    points: Sequence[tuple[int, float]] = ()
    """What a small curve beside it shows."""


@dataclass(frozen=True)
class PhaseRow:
    """One phase, whether it was begun or not."""

    name: str
    state: str
    tone: Tone
    symbol: str
    time: str = ""
    attempts: int = 0
    steps: str = ""
    message: str = ""
    model: str = ""


@dataclass(frozen=True)
class ComparedRow:
    """One measure under both policies."""

    label: str
    unit: str
    sft: str
    policy: str


@dataclass(frozen=True)
class SampleRow:
    """One prompt with both responses."""

    prompt: str
    sft: str
    policy: str
    sft_score: str
    policy_score: str
    winner: str
    """`sft`, `policy` or empty for a tie."""


def tiles(facts: RunFacts) -> list[Tile]:
    """Return the three headline numbers."""
    return [_kl_tile(facts), _win_rate_tile(facts), _reward_tile(facts)]


def _kl_tile(facts: RunFacts) -> Tile:
    ppo = facts.phase(Phase.PPO)
    points = ppo.points("kl_nats") if ppo else []
    limit, target = kl_limit(facts), kl_target(facts)
    if not points:
        detail = f"not measured; limit {number(limit)}" if limit is not None else "not measured"
        return _accuracy_tile(facts) or Tile("KL to SFT", detail=detail)
    value = points[-1][1]
    peak_step, peak = max(points, key=lambda point: (math.isfinite(point[1]), point[1]))
    detail = f"highest {number(peak)} at step {peak_step}"
    if target is not None:
        detail = f"target {number(target)}, {detail}"
    if limit is None:
        return Tile("KL to SFT", number(value), "nats", detail)
    share = value / limit if math.isfinite(value) else 1.0
    tone = Tone.BAD if not share <= 1 else Tone.WARNING if share >= _NEAR else Tone.GOOD
    meter = Meter(min(max(share, 0.0), 1.0), tick=target / limit if target is not None else None)
    return Tile("KL to SFT", number(value), f"of {number(limit)} nats", detail, tone, meter)


def _accuracy_tile(facts: RunFacts) -> Tile | None:
    """Return how well the reward model does: what decides whether there will be a KL at all."""
    reward_model = facts.phase(Phase.REWARD_MODEL)
    result = reward_model.result if reward_model else None
    accuracy = result.metrics.get("validationAccuracy") if result else None
    if accuracy is None and reward_model is not None:
        accuracy = reward_model.last("preference_accuracy")
    if accuracy is None:
        return None
    gate = facts.config.reward_model.minimum_accuracy if facts.config else None
    if gate is None:
        return Tile("Reward model's accuracy", percent(accuracy), "of held-out pairs")
    return Tile(
        "Reward model's accuracy",
        percent(accuracy),
        "of held-out pairs",
        f"gate {percent(gate)}; KL is not measured yet",
        Tone.GOOD if accuracy >= gate else Tone.WARNING,
        Meter(min(max(accuracy, 0.0), 1.0), tick=gate),
    )


def _win_rate_tile(facts: RunFacts) -> Tile:
    evaluation, ppo = facts.phase(Phase.EVALUATION), facts.phase(Phase.PPO)
    metrics = evaluation.result.metrics if evaluation and evaluation.result else {}
    rate = metrics.get("winRate")
    if rate is None:
        rate, detail = (ppo.last("win_rate") if ppo else None), "on the way, not final"
    else:
        detail = "against SFT, by the judge"
    if rate is None:
        return Tile("Win rate", detail="not evaluated")
    low, high = metrics.get("winRateLow"), metrics.get("winRateHigh")
    if low is not None and high is not None:
        detail = f"95% interval {percent(low)} to {percent(high)}"
    above = rate > _EVEN if low is None else low > _EVEN
    return Tile(
        "Win rate",
        percent(rate),
        "against SFT",
        detail,
        Tone.GOOD if above else Tone.WARNING,
        Meter(min(max(rate, 0.0), 1.0), low, high, tick=_EVEN),
    )


def _reward_tile(facts: RunFacts) -> Tile:
    evaluation, ppo = facts.phase(Phase.EVALUATION), facts.phase(Phase.PPO)
    metrics = evaluation.result.metrics if evaluation and evaluation.result else {}
    points = ppo.points("reward_score") if ppo else []
    value = metrics.get("rewardScore", points[-1][1] if points else None)
    if value is None:
        return Tile("Reward", detail="not measured")
    before = metrics.get("sftRewardScore")
    if before is not None:
        detail = f"SFT {score(before)}, on held-out prompts"
    elif points:
        detail = f"from {score(points[0][1])} at step {points[0][0]}"
    else:
        detail = ""
    return Tile("Reward", score(value), "score", detail, points=points)


_SYMBOLS = {
    Tone.GOOD: "✓",
    Tone.WARNING: "!",
    Tone.BAD: "✕",
    Tone.RUNNING: "●",
    Tone.NEUTRAL: "○",
}

_STATES: dict[Outcome, tuple[str, Tone]] = {
    Outcome.COMPLETED: ("Completed", Tone.GOOD),
    Outcome.STOPPED: ("Stopped", Tone.WARNING),
    Outcome.GATE_FAILED: ("Gate not passed", Tone.WARNING),
    Outcome.PREEMPTED: ("Interrupted", Tone.NEUTRAL),
}
"""How a phase's outcome is told; the others are failures and told by their own name."""

_NAMES = {Phase.REWARD_MODEL: "Reward model"}


def phase_rows(facts: RunFacts) -> list[PhaseRow]:
    """Return all phases in the order in which they run."""
    return [_phase_row(phase, facts.phase(phase)) for phase in Phase]


def _phase_row(phase: Phase, facts: PhaseFacts | None) -> PhaseRow:
    name = _NAMES.get(phase, phase.value)
    state, tone = _state(facts)
    if facts is None:
        return PhaseRow(name, state, tone, _SYMBOLS[tone])
    result = facts.result
    step = result.step if result else facts.progress.step if facts.progress else 0
    return PhaseRow(
        name,
        state,
        tone,
        _SYMBOLS[tone],
        time=duration(facts.duration_seconds) if facts.duration_seconds else "",
        attempts=facts.attempts,
        steps=number(step) if step else "",
        message=capitalised(result.message) if result else "",
        model=(result.model_path or "") if result else "",
    )


def _state(facts: PhaseFacts | None) -> tuple[str, Tone]:
    if facts is not None and facts.outcome is not None:
        return _STATES.get(facts.outcome, (facts.outcome.value, Tone.BAD))
    if facts is not None and facts.attempts:
        return "Running", Tone.RUNNING
    skipped = facts is not None and facts.status is not None and facts.status.state == "Skipped"
    return ("Skipped" if skipped else "Not begun"), Tone.NEUTRAL


_COMPARED = {
    "rewardScore": ("Reward", "score"),
    "entropyNatsPerToken": ("Entropy", "nats per token"),
    "responseLengthTokens": ("Response length", "tokens"),
    "distinct2": ("Distinct-2", "share of word pairs"),
}
"""Measures of Evaluation; the SFT policy's have the same name after `sft`."""


def compared_rows(facts: RunFacts) -> list[ComparedRow]:
    """Return what Evaluation measured under both policies."""
    evaluation = facts.phase(Phase.EVALUATION)
    metrics = evaluation.result.metrics if evaluation and evaluation.result else {}
    return [
        ComparedRow(label, unit, number(metrics[sft]), number(metrics[name]))
        for name, (label, unit) in _COMPARED.items()
        if name in metrics and (sft := f"sft{capitalised(name)}") in metrics
    ]


def sample_rows(samples: Sequence[Sample]) -> list[SampleRow]:
    """Return the samples with the judge's choice."""
    return [
        SampleRow(
            sample.prompt,
            sample.sft,
            sample.ppo,
            number(sample.sft_score),
            number(sample.ppo_score),
            _winner(sample),
        )
        for sample in samples
    ]


def _winner(sample: Sample) -> str:
    """Return the judge's choice. As in win rates, the same response twice is a tie."""
    if sample.ppo == sample.sft or sample.ppo_score == sample.sft_score:
        return ""
    return "policy" if sample.ppo_score > sample.sft_score else "sft"


def choices(samples: Sequence[Sample]) -> Mapping[str, int]:
    """Return how often the judge chose which policy."""
    winners = [_winner(sample) for sample in samples]
    return {
        "policy": winners.count("policy"),
        "sft": winners.count("sft"),
        "tie": winners.count(""),
    }
