"""When curves of TRL and ours count as equal, on numbers made up for it."""

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from trl_page import BEGIN, CONTROL, END, OURS, TRL, Side, compare, main, plot

STEPS = 8


def side(*levels: float) -> Side:
    """Curves that stay at a level, one per seed, in both metrics."""
    return {metric: [[level] * STEPS for level in levels] for metric in ("reward", "KL")}


def test_compare_counts_in_standard_errors_of_a_difference_of_means() -> None:
    """Variances 1 and 1, three seeds each: standard error sqrt(1 x 2/3)."""
    checks = compare(side(0, 1, 2), side(2, 3, 4))
    assert [check.metric for check in checks] == ["reward"] * 3 + ["KL"] * 3
    for check in checks:
        assert check.distance == pytest.approx(2 / (2 / 3) ** 0.5)
        assert check.passes


@pytest.mark.parametrize(("apart", "passing"), [(2.4, 3), (2.5, 1), (3.3, 0)])
def test_compare_allows_three_standard_errors_and_four_at_a_single_step(
    apart: float, passing: int
) -> None:
    checks = compare(side(0, 1, 2), side(apart, apart + 1, apart + 2))
    assert sum(check.passes for check in checks[:3]) == passing


def test_compare_names_the_step_that_is_farthest_apart() -> None:
    ours = side(0, 1, 2)
    moved = [[*run[:5], run[5] + 9, *run[6:]] for run in ours["KL"]]
    worst = compare(side(0, 1, 2), {**ours, "KL": moved})[-1]
    assert worst.where.startswith("step 5,")
    assert not worst.passes


def test_page_is_written_between_its_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, curves = tmp_path / "trl.md", tmp_path / "curves.json"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    sides = {TRL: side(0, 1, 2), OURS: side(0, 1, 3), CONTROL: side(7, 8, 9)}
    curves.write_text(json.dumps(sides), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["trl_page.py", str(curves), str(page)])
    main()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| reward |") == 6
    assert (tmp_path / "trl.svg").read_text(encoding="utf-8") == plot(sides)


def test_plot_is_whole_and_names_both_sides() -> None:
    drawn = plot({TRL: side(0, 1, 2), OURS: side(0, 1, 3)})
    root = ET.fromstring(drawn)  # noqa: S314 -- our own
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert TRL in texts
    assert OURS in texts


def test_committed_page_has_numbers_and_a_plot(root: Path) -> None:
    text = (root / "docs" / "trl.md").read_text(encoding="utf-8")
    measured = text.split(BEGIN)[1].split(END)[0]
    assert measured.count("| reward |") == measured.count("| KL |") == 6
    ET.parse(root / "docs" / "trl.svg")  # noqa: S314 -- our own
