"""Which curves a report shows, and what they are held against. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlhf_trainer.config.guard import EntropyGuardConfig
from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.report.chart import Chart, Line, Mark, Rule
from rlhf_trainer.report.facts import PhaseFacts, RunFacts
from rlhf_trainer.report.formats import percent

MAXIMUM_EVENTS = 12
"""The newest are shown: a guard that warns at every step would fill the page."""

MAXIMUM_BARS = 60
"""Beyond, neighbouring steps share a bar of their mean."""


@dataclass(frozen=True)
class Group:
    """The curves of one phase."""

    title: str
    charts: Sequence[Chart]
    stages: Chart | None = None
    events: Sequence[tuple[int, str]] = ()
    """Step and what people should see at it."""


def kl_limit(facts: RunFacts) -> float | None:
    """Return the KL that must not be exceeded, as measured runs say or else as configured."""
    ppo = facts.phase(Phase.PPO)
    measured = ppo.last("kl_limit_nats") if ppo else None
    if measured is None and facts.config is not None:
        return facts.config.kl_limit_nats
    return measured


def kl_target(facts: RunFacts) -> float | None:
    """Return the KL that the adaptive controller aimed at."""
    ppo = facts.phase(Phase.PPO)
    return ppo.last("kl_target_nats") if ppo else None


def leading_chart(facts: RunFacts) -> Chart | None:
    """Return the chart at the top: KL against its limit, or how far an earlier phase got."""
    ppo = facts.phase(Phase.PPO)
    if ppo is not None and ppo.points("kl_nats"):
        return _kl(facts, ppo)
    reward_model = facts.phase(Phase.REWARD_MODEL)
    if reward_model is not None and reward_model.points("preference_accuracy"):
        return _accuracy(facts, reward_model)
    sft = facts.phase(Phase.SFT)
    if sft is not None and sft.history:
        return _losses(
            sft, "SFT loss", "nats per token", {"sft": "training", "validation": "held out"}
        )
    return None


def groups(facts: RunFacts) -> list[Group]:
    """Return the curves below the fold, phase by phase, the latest first."""
    makers = ((Phase.PPO, _ppo), (Phase.REWARD_MODEL, _reward_model), (Phase.SFT, _sft))
    found = []
    for phase, charts in makers:
        of_phase = facts.phase(phase)
        if of_phase is not None and of_phase.history:
            drawn = [chart for chart in charts(facts, of_phase) if chart.has_points]
            found.append(Group(_TITLES[phase], drawn, _stages(of_phase), _events(of_phase)))
    return found


_TITLES = {Phase.PPO: "PPO", Phase.REWARD_MODEL: "Reward model", Phase.SFT: "SFT"}


def _events(phase: PhaseFacts) -> list[tuple[int, str]]:
    events = [(record.step, record.event) for record in phase.history if record.event]
    return events[-MAXIMUM_EVENTS:]


def _kl(facts: RunFacts, ppo: PhaseFacts) -> Chart:
    limit, target = kl_limit(facts), kl_target(facts)
    rules = [Rule("limit", limit, "limit")] if limit is not None else []
    if target is not None:
        rules.append(Rule("target", target, "target"))
    return Chart(
        "KL to the SFT policy",
        "nats per response",
        [Line("KL", ppo.points("kl_nats"), ppo.points("kl_standard_error_nats"))],
        rules,
        list(_kl_marks(ppo)),
        from_zero=True,
        note="band: two standard errors of the batch",
    )


def _kl_marks(ppo: PhaseFacts) -> Iterable[Mark]:
    result = ppo.result
    if result is None or result.outcome not in (Outcome.STOPPED, Outcome.DIVERGED):
        return
    last = ppo.history[-1].step
    word = "stopped" if result.outcome is Outcome.STOPPED else "diverged"
    yield Mark(last, f"{word} at step {last}", "stop")
    if result.certified_step is not None:
        label = f"step {result.certified_step} kept"
        yield Mark(result.certified_step, label, "certified")


def _accuracy(facts: RunFacts, reward_model: PhaseFacts) -> Chart:
    gate = facts.config.reward_model.minimum_accuracy if facts.config else None
    return Chart(
        "Accuracy on held-out comparisons",
        "share of pairs",
        [Line("accuracy", reward_model.points("preference_accuracy"))],
        [Rule("gate", gate, "gate")] if gate is not None else [],
        write=percent,
    )


def _losses(phase: PhaseFacts, title: str, unit: str, labels: dict[str, str]) -> Chart:
    lines = [Line(label, phase.points(f'loss{{name="{name}"}}')) for name, label in labels.items()]
    return Chart(title, unit, [line for line in lines if line.points])


def _single(phase: PhaseFacts, series: str, title: str, unit: str, *rules: Rule) -> Chart:
    return Chart(title, unit, [Line(title, phase.points(series))], rules)


def _ppo(facts: RunFacts, ppo: PhaseFacts) -> list[Chart]:
    entropy = facts.config.guard.entropy if facts.config else None
    return [
        _single(ppo, "reward_score", "Reward", "score"),
        _single(ppo, "entropy_nats_per_token", "Entropy", "nats per token", *_floor(entropy)),
        _single(ppo, "response_length_tokens", "Response length", "tokens"),
        _single(ppo, "distinct_2_ratio", "Distinct-2", "share of word pairs"),
        _single(ppo, "win_rate", "Win rate on the way", "share of prompts"),
        _losses(ppo, "Policy loss", "score", {"policy": "policy"}),
        _losses(ppo, "Value loss", "score²", {"value": "value"}),
        _single(ppo, "value_explained_variance", "Value: explained variance", "share"),
        _single(ppo, "clip_fraction", "Clip fraction", "share of tokens"),
        _single(ppo, "policy_kl_nats_per_token", "KL of the update", "nats per token"),
        _single(ppo, "kl_coefficient", "KL coefficient", "score per nat"),
        _single(ppo, "gradient_norm", "Gradient norm", "before clipping"),
        _single(ppo, "learning_rate", "Learning rate", "per update"),
        _single(ppo, "missing_eos_fraction", "Unfinished responses", "share of responses"),
    ]


def _floor(entropy: EntropyGuardConfig | None) -> list[Rule]:
    return [Rule("floor", entropy.floor_nats_per_token, "gate")] if entropy else []


def _reward_model(facts: RunFacts, reward_model: PhaseFacts) -> list[Chart]:
    return [
        _accuracy(facts, reward_model),
        _losses(reward_model, "Loss", "nats per comparison", {"reward": "training"}),
        _single(reward_model, "preference_margin_score", "Margin", "score, chosen minus rejected"),
        _single(reward_model, "gradient_norm", "Gradient norm", "before clipping"),
        _single(reward_model, "learning_rate", "Learning rate", "per update"),
    ]


def _sft(_facts: RunFacts, sft: PhaseFacts) -> list[Chart]:
    return [
        _losses(sft, "Loss", "nats per token", {"sft": "training", "validation": "held out"}),
        _single(sft, "gradient_norm", "Gradient norm", "before clipping"),
        _single(sft, "learning_rate", "Learning rate", "per update"),
    ]


def _stages(phase: PhaseFacts) -> Chart | None:
    """Return the time of every stage, of all steps or of stretches of them."""
    timed = [record for record in phase.history if record.stage_seconds]
    if not timed:
        return None
    size = -(-len(timed) // MAXIMUM_BARS)
    sums: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for begin in range(0, len(timed), size):
        stretch = timed[begin : begin + size]
        for record in stretch:
            for stage, seconds in record.stage_seconds.items():
                sums[stage][stretch[0].step] += seconds / len(stretch)
    lines = [Line(stage, sorted(seconds.items())) for stage, seconds in sums.items()]
    return Chart("Time per step", "seconds", lines, from_zero=True)
