"""The dashboard *Run*: one run, from its KL to its memory."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import STEPS_WINDOW, Panel, Query, add_rows, board, choice, mark

CHOSEN = 'namespace="$namespace",run="$run",iteration=~"$iteration",phase=~"$phase"'
"""The run, and those of its iterations and phases, that are chosen at the top."""

WHO = "{{phase}} {{iteration}}/{{attempt}}"
"""Phase, iteration and attempt of a curve."""

ENTROPY = "suffix: nats/token"
NATS = "suffix: nats"
TOKENS = "suffix: tokens"
TOKENS_PER_SECOND = "suffix: tokens/s"
SCORE = "suffix: score"

THE_RUN = 'run_namespace="$namespace",run_name="$run"'
"""The run in what the operator tells: the labels namespace and run are those of targets."""

STOP_KL = f"rlhf_operator_stop_kl_nats{{{THE_RUN}}}"
"""What the operator tells of a stop for as long as there is the run.

A stop ends the trainer soon after: its counter and its last KL may never be read.
"""


def plain(series: str, *, legend: str = WHO, **labels: str) -> Query:
    """Return the query of a series of the run as it is exported."""
    matchers = "".join(f',{name}="{value}"' for name, value in labels.items())
    return Query(f"{series}{{{CHOSEN}{matchers}}}", legend)


STATE = (
    Panel(
        "Step",
        "Completed updates of the phase, and at which update it ends.",
        units.Short,
        (
            plain("rlhf_step", legend="{{phase}} step"),
            plain("rlhf_total_steps", legend="{{phase}} of"),
        ),
        span=6,
        is_number=True,
    ),
    Panel(
        "Attempts",
        "Attempts of each phase that were seen in the time shown; above 1, one failed or was "
        "interrupted.",
        units.Short,
        (
            Query(
                f"count by (phase) (count by (phase, iteration, attempt) "
                f"(max_over_time(rlhf_run_info{{{CHOSEN}}}[$__range])))",
                "{{phase}}",
            ),
        ),
        span=6,
        is_number=True,
    ),
    Panel(
        "Certified step",
        "Newest step whose policy was measured inside the KL limit: what a stop would export.",
        units.Short,
        (plain("rlhf_certified_step"),),
        span=6,
        is_number=True,
    ),
    Panel(
        "KL of the limit",
        "KL as a share of the limit. Above 100 % in several steps running, the guard stops it.",
        units.PercentUnit,
        (Query(f"rlhf_kl_nats{{{CHOSEN}}} / rlhf_kl_limit_nats{{{CHOSEN}}}", WHO),),
        span=6,
        is_number=True,
        minimum=0,
    ),
)

LEARNING = (
    Panel(
        "KL to the SFT policy",
        "Sum over a response's tokens, mean over the batch. The adaptive controller steers to the "
        "target; the guard stops above the limit.",
        NATS,
        (
            plain("rlhf_kl_nats", legend=f"KL {WHO}"),
            plain("rlhf_kl_limit_nats", legend=f"limit {WHO}"),
            plain("rlhf_kl_target_nats", legend=f"target {WHO}"),
            Query(f"max by (by) ({STOP_KL})", "stopped by {{by}} at"),
        ),
        minimum=0,
    ),
    Panel(
        "Reward",
        "Normalised score of the reward model, mean over the batch, before the KL penalty. It says "
        "nothing about quality once the policy has found a weakness of the reward model.",
        SCORE,
        (plain("rlhf_reward_score"),),
    ),
    Panel(
        "Entropy",
        "Entropy of the policy, mean over response tokens. A fall towards 0 is a policy that says "
        "the same thing always.",
        ENTROPY,
        (plain("rlhf_entropy_nats_per_token"),),
        minimum=0,
    ),
    Panel(
        "Response length",
        "Mean over the batch. Growth without better text means that length itself is rewarded.",
        TOKENS,
        (plain("rlhf_response_length_tokens"),),
        minimum=0,
    ),
    Panel(
        "Distinct word pairs",
        "Distinct over all pairs of neighbouring words in the batch's responses, and the share of "
        "responses that did not end by themselves. Text that loops shows here, not in the reward.",
        units.PercentUnit,
        (
            plain("rlhf_distinct_2_ratio", legend=f"distinct {WHO}"),
            plain("rlhf_missing_eos_fraction", legend=f"cut off {WHO}"),
        ),
        minimum=0,
        maximum=1,
    ),
    Panel(
        "KL coefficient",
        "Weight of the KL penalty. One that only rises is a controller that does not get through.",
        units.Short,
        (plain("rlhf_kl_coefficient"),),
        minimum=0,
    ),
)

TRAINING = (
    Panel(
        "Losses",
        "By name: sft and validation, reward, policy, value. Policy loss has no trend that "
        "means anything.",
        units.Short,
        (plain("rlhf_loss", legend=f"{{{{name}}}} {WHO}"),),
    ),
    Panel(
        "Preference accuracy",
        "Accuracy of the reward model on held-out comparisons; one half is chance.",
        units.PercentUnit,
        (plain("rlhf_preference_accuracy"),),
        minimum=0,
        maximum=1,
    ),
    Panel(
        "Win rate",
        "Against the SFT policy, by the judge; ties count half. The evaluation's is told by the "
        "operator, since the trainer ends with it.",
        units.PercentUnit,
        (
            Query(f"max(rlhf_operator_win_rate{{{THE_RUN}}})", "evaluation"),
            plain("rlhf_win_rate", legend=f"on the way {WHO}"),
        ),
        minimum=0,
        maximum=1,
    ),
    Panel(
        "Gradient norm",
        "Global norm before clipping, of the last update; in PPO the mean over the step's updates, "
        "with that of a critic that has an engine of its own apart.",
        units.Short,
        (
            plain("rlhf_gradient_norm"),
            plain("rlhf_critic_gradient_norm", legend=f"critic {WHO}"),
        ),
        minimum=0,
    ),
    Panel(
        "Size of the update",
        "Share of tokens whose ratio was clipped, and share of the returns' variance that the "
        "values explain.",
        units.PercentUnit,
        (
            plain("rlhf_clip_fraction", legend=f"clipped {WHO}"),
            plain("rlhf_value_explained_variance", legend=f"explained {WHO}"),
        ),
        maximum=1,
    ),
    Panel(
        "Learning rate",
        "Of the last update, warm-up and the guard's halving included.",
        units.Short,
        (plain("rlhf_learning_rate"),),
        minimum=0,
    ),
)

MACHINE = (
    Panel(
        "Throughput",
        "Tokens per second by kind: prompt and response in the rollout, trained in the update; "
        f"mean over the {STEPS_WINDOW} before, since tokens are counted once a step: it means "
        "little where a step takes longer.",
        TOKENS_PER_SECOND,
        (
            Query(
                f"sum by (kind) (rate(rlhf_tokens_total{{{CHOSEN}}}[{STEPS_WINDOW}]))", "{{kind}}"
            ),
        ),
        minimum=0,
    ),
    Panel(
        "Time of a step, by stage",
        "Wall time of the last step's stages, on rank 0.",
        units.Seconds,
        (plain("rlhf_step_duration_seconds", legend=f"{{{{stage}}}} {WHO}"),),
        minimum=0,
    ),
    Panel(
        "Memory",
        "Largest resident memory so far of rank 0's process; what GPUs hold is not exported.",
        units.BytesIEC,
        (plain("rlhf_resident_memory_bytes"),),
        minimum=0,
    ),
    Panel(
        "Heartbeat",
        "Micro-batches, and parts of checkpoints and exports, per second. At 0 for "
        "spec.runPolicy.hangTimeoutSeconds, the operator takes the attempt for hung and starts "
        "another one.",
        "suffix: /s",
        (Query(f"rate(rlhf_heartbeat_total{{{CHOSEN}}}[$__rate_interval])", WHO),),
        minimum=0,
    ),
    Panel(
        "Steps",
        "Completed updates, newest complete checkpoint, newest certified one. A step that falls "
        "is a new attempt that took up a checkpoint.",
        units.Short,
        (
            plain("rlhf_step", legend=f"step {WHO}"),
            plain("rlhf_checkpoint_step", legend=f"checkpoint {WHO}"),
            plain("rlhf_certified_step", legend=f"certified {WHO}"),
        ),
        minimum=0,
    ),
    Panel(
        "Breaches of the guard's rules",
        "Since the attempt began, by signal and by what the guard did.",
        units.Short,
        (plain("rlhf_guard_breaches_total", legend=f"{{{{signal}}}} {{{{action}}}} {WHO}"),),
        minimum=0,
    ),
)

ROWS = {"State": STATE, "What it learns": LEARNING, "Training": TRAINING, "Machine": MACHINE}

# The first minute is the moment that is marked. A hand-over of the lease or a missed scrape leaves
# a gap: what was seen within a day is not new.
STOPS = f"max by (by) ({STOP_KL}) unless max by (by) (max_over_time({STOP_KL}[1d] offset 1m))"
OVER = f"rlhf_kl_nats{{{CHOSEN}}} > rlhf_kl_limit_nats{{{CHOSEN}}}"
BREACHES = f'rlhf_guard_breaches_total{{{CHOSEN},action!="Stop"}}'
# increase() does not see a series whose first sample is 1.
OTHER = (
    f"increase({BREACHES}[5m]) > 0 or ({BREACHES} unless max_over_time({BREACHES}[1d] offset 1m))"
)


def run_dashboard() -> dashboard.Dashboard:
    """Return the dashboard of one run."""
    made = board("rlhf-run", "RLHF / Run", "One RLHFRun: what it learns, how, and at what cost.")
    known = 'rlhf_run_info{namespace="$namespace"'
    for variable in (
        choice("namespace", "Namespace", "label_values(rlhf_run_info, namespace)"),
        choice("run", "Run", f"label_values({known}}}, run)"),
        choice(
            "iteration",
            "Iteration",
            f'label_values({known},run="$run"}}, iteration)',
            several=True,
        ),
        choice("phase", "Phase", f'label_values({known},run="$run"}}, phase)', several=True),
    ):
        made.with_variable(variable)
    for annotation in (
        mark("Stopped on KL", STOPS, "by {{by}}", colour="red"),
        mark("KL above the limit", OVER, "attempt {{attempt}}", colour="orange"),
        mark("Breach", OTHER, "{{signal}}: {{action}}", colour="yellow"),
    ):
        made.annotation(annotation)
    return add_rows(made, ROWS)
