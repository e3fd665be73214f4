"""How often the default KL rule stops a run it should not, and misses one it should.

`python benchmarks/guard_simulation.py` prints two tables; `--write` puts them into docs/guard.md,
and a test holds the two together. The guard that is simulated is the one that runs.

Noise: a policy holds its true KL, and each step's batch KL scatters around it, independently (each
step samples its own prompts and responses) and log-normally, by a relative standard deviation.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_trainer.config.guard import KLGuardConfig
from rlhf_trainer.config.training import LIMIT_OVER_TARGET
from rlhf_trainer.guard import Action, GuardRules, GuardState, KLRule, Measurement, observe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guard.md"
BEGIN, END = "<!-- simulation: begin -->\n", "<!-- simulation: end -->\n"

SEED = 20220304
RUNS = 200
RUN_STEPS = 500
"""Steps of InstructGPT's PPO: 256,000 episodes in rollouts of 512."""
SHORT_RUN_STEPS = 100
LIMIT_NATS = 15.0
PATIENCE_STEPS = 10
"""A run above the limit that has not been stopped within so many steps counts as missed."""

AT_TARGET, BELOW, ABOVE = 1 / LIMIT_OVER_TARGET, 0.8, 1.2
"""Levels of the true KL, as multiples of the limit."""
RELATIVE_DEVIATIONS = (0.05, 0.10, 0.15, 0.20, 0.25)
MIDDLE_DEVIATION = 0.15
CONSECUTIVE_STEPS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Row:
    """What the rule did at one scatter of batch KL."""

    consecutive_steps: int
    relative_deviation: float
    stopped_at_target: float
    """Share of whole runs stopped though the policy sat at the adaptive controller's target."""
    stopped_below_early: float
    """Share of runs stopped in `SHORT_RUN_STEPS` though the policy sat at 0.8 times the limit."""
    stopped_below: float
    """The same of whole runs."""
    missed_above: float
    """Share of runs at 1.2 times the limit that were not stopped within `PATIENCE_STEPS`."""
    steps_to_stop: float
    """Mean steps until a run at 1.2 times the limit was stopped."""


def kl_traces(
    rng: np.random.Generator, true_kl_nats: float, relative_deviation: float
) -> np.ndarray:
    """Return batch KLs in nats, [RUNS, RUN_STEPS], log-normal around `true_kl_nats`."""
    variance = np.log1p(relative_deviation**2)
    mean = np.log(true_kl_nats) - variance / 2
    return rng.lognormal(mean, np.sqrt(variance), size=(RUNS, RUN_STEPS))


def steps_until_stop(rules: GuardRules, trace: np.ndarray) -> int:
    """Return how many steps the guard let pass before it stopped; all of them if it never did."""
    state = GuardState()
    for step, kl_nats in enumerate(trace.tolist()):
        state, _ = observe(rules, state, step, Measurement(kl_nats, None, None))
        if state.stop is not None:
            return step
    return len(trace)


def simulate(relative_deviation: float, consecutive_steps: int) -> Row:
    """Run the rule over traces at all three levels; the same arguments give the same numbers."""
    rules = GuardRules(
        KLRule(
            limit_nats=LIMIT_NATS,
            ceiling_nats=2 * LIMIT_NATS,
            consecutive_steps=consecutive_steps,
            action=Action.STOP,
        )
    )
    rng = np.random.default_rng(SEED)
    at_target, below, above = (
        np.array(
            [
                steps_until_stop(rules, trace)
                for trace in kl_traces(rng, level * LIMIT_NATS, relative_deviation)
            ]
        )
        for level in (AT_TARGET, BELOW, ABOVE)
    )
    return Row(
        consecutive_steps=consecutive_steps,
        relative_deviation=relative_deviation,
        stopped_at_target=float((at_target < RUN_STEPS).mean()),
        stopped_below_early=float((below < SHORT_RUN_STEPS).mean()),
        stopped_below=float((below < RUN_STEPS).mean()),
        missed_above=float((above >= PATIENCE_STEPS).mean()),
        steps_to_stop=float(above.mean()) + 1,
    )


def tables() -> str:
    """Simulate the default rule at every scatter, and every streak at the middle one."""
    default_steps = KLGuardConfig().consecutive_steps
    scatters = [simulate(deviation, default_steps) for deviation in RELATIVE_DEVIATIONS]
    streaks = [simulate(MIDDLE_DEVIATION, steps) for steps in CONSECUTIVE_STEPS]
    return (
        f"The default rule, `consecutiveSteps: {default_steps}`:\n\n"
        + _table("scatter", [(f"{row.relative_deviation:.0%}", row) for row in scatters])
        + f"\nOther values of `consecutiveSteps`, at a scatter of {MIDDLE_DEVIATION:.0%}:\n\n"
        + _table("steps", [(str(row.consecutive_steps), row) for row in streaks])
    )


def _table(first_column: str, rows: list[tuple[str, Row]]) -> str:
    head = (
        f"| {first_column} | false stops at 0.4x, {RUN_STEPS} steps "
        f"| false stops at 0.8x, {SHORT_RUN_STEPS} steps | false stops at 0.8x, {RUN_STEPS} steps "
        f"| misses at 1.2x, {PATIENCE_STEPS} steps | mean steps to stop at 1.2x |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {name} | {row.stopped_at_target:.1%} | {row.stopped_below_early:.1%} "
        f"| {row.stopped_below:.1%} | {row.missed_above:.1%} | {row.steps_to_stop:.1f} |\n"
        for name, row in rows
    )


def main() -> int:
    """Print the tables, or put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    write = parser.parse_args().write
    text = tables()
    if not write:
        print(text, end="")
        return 0
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
