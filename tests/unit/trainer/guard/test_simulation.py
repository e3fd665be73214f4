"""False stops and misses of the default rule on noisy traces, and the page that states them."""

from guard_simulation import BEGIN, END, PAGE, simulate, tables
from rlhf_trainer.config.guard import KLGuardConfig


def test_default_rule_at_moderate_scatter_is_safe_and_quick() -> None:
    row = simulate(0.10, KLGuardConfig().consecutive_steps)
    assert row.stopped_at_target == 0
    assert row.stopped_below_early <= 0.02
    assert row.stopped_below <= 0.15
    assert row.missed_above == 0
    assert row.steps_to_stop <= 3


def test_default_rule_at_large_scatter_never_stops_at_the_target_and_hardly_misses() -> None:
    row = simulate(0.25, KLGuardConfig().consecutive_steps)
    assert row.stopped_at_target == 0
    assert row.missed_above <= 0.05


def test_guard_page_states_what_the_simulation_gives() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == tables(), (
        "docs/guard.md differs; run: python benchmarks/guard_simulation.py --write"
    )
