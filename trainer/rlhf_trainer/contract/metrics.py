"""The trainer's Prometheus metrics: one table for exporter, watchdog, dashboards and docs."""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "rlhf_"

METRICS_PORT = 8000
"""Where a trainer serves them, unless it is told otherwise."""


class MetricKind(StrEnum):
    """Prometheus type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True)
class Metric:
    """One metric: its name without prefix and suffix, kind, documentation and own labels."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    from_start: tuple[str, ...] = ()
    """Values of its only label that a counter has at 0 before anything is counted."""

    @property
    def series(self) -> str:
        """Name under which its samples are exported."""
        suffix = {MetricKind.COUNTER: "_total", MetricKind.INFO: "_info", MetricKind.GAUGE: ""}[
            self.kind
        ]
        return PREFIX + self.name + suffix


_G, _C = MetricKind.GAUGE, MetricKind.COUNTER

METRICS: tuple[Metric, ...] = (
    Metric(
        "run",
        MetricKind.INFO,
        "Which run this is.",
        ("run_name", "phase_name", "iteration_number", "attempt_number"),
    ),
    Metric("step", _G, "Completed updates."),
    Metric("total_steps", _G, "Updates at which the phase ends if nothing stops it."),
    Metric("checkpoint_step", _G, "Newest complete checkpoint."),
    Metric(
        "certified_step",
        _G,
        "Newest checkpointed step whose policy was measured inside the KL limit; 0 is the SFT "
        "model.",
    ),
    Metric(
        "heartbeat",
        _C,
        "Signs of life: micro-batches, blocks of what is saved. Standing still is a hang.",
    ),
    Metric(
        "kl_nats",
        _G,
        "KL to the SFT reference: sum over response tokens, mean over the batch (k1).",
    ),
    Metric("kl_standard_error_nats", _G, "Standard error of rlhf_kl_nats over the batch."),
    Metric("kl_limit_nats", _G, "KL that must not be exceeded."),
    Metric(
        "kl_target_nats",
        _G,
        "KL that the adaptive controller aims at; absent with a fixed coefficient.",
    ),
    Metric("kl_coefficient", _G, "Weight of the KL penalty."),
    Metric(
        "reward_score",
        _G,
        "Normalised reward-model score, mean over the batch, before the KL penalty.",
    ),
    Metric("entropy_nats_per_token", _G, "Entropy of the policy, mean over response tokens."),
    Metric("response_length_tokens", _G, "Response length, mean over the batch."),
    Metric(
        "missing_eos_fraction",
        _G,
        "Share of responses that ended without the end-of-sequence token.",
    ),
    Metric("distinct_2_ratio", _G, "Distinct word pairs over word pairs of the batch's responses."),
    Metric(
        "clip_fraction",
        _G,
        "Share of tokens whose probability ratio was clipped, mean over the step's updates.",
    ),
    Metric(
        "policy_kl_nats_per_token",
        _G,
        "Approximate KL from the rollout policy to the one that each update begins with, mean over "
        "tokens; with one epoch of one minibatch always about 0.",
    ),
    Metric(
        "value_explained_variance",
        _G,
        "Share of the returns' variance that rollout values explain.",
    ),
    Metric("preference_accuracy", _G, "Reward model's accuracy on held-out comparisons."),
    Metric(
        "preference_margin_score",
        _G,
        "Mean score difference of held-out pairs, chosen minus rejected.",
    ),
    Metric("loss", _G, "Loss by name: sft, validation, reward, policy, value.", ("name",)),
    Metric("learning_rate", _G, "Learning rate of the last update."),
    Metric(
        "gradient_norm",
        _G,
        "Global gradient norm before clipping, of the last update; in PPO mean over the step's "
        "updates, of the engine that trains the policy.",
    ),
    Metric(
        "critic_gradient_norm",
        _G,
        "Global gradient norm before clipping of a critic with an engine of its own, mean over the "
        "step's updates.",
    ),
    Metric("win_rate", _G, "Win rate against the SFT policy by the judge; ties count half."),
    Metric("step_duration_seconds", _G, "Wall time of the last step's stages.", ("stage",)),
    Metric(
        "tokens",
        _C,
        "Tokens worked through, by kind: prompt and response of rollouts; trained, which are those "
        "of responses in PPO, and all but padding in SFT and RewardModel.",
        ("kind",),
        from_start=("prompt", "response", "trained"),
    ),
    Metric("guard_breaches", _C, "Breaches of the guard's rules.", ("signal", "action")),
    Metric("resident_memory_bytes", _G, "Largest resident memory of rank 0's process so far."),
)

METRICS_BY_NAME = {metric.name: metric for metric in METRICS}
