"""What people are told while an attempt lives: of several causes, the one that matters now."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rlhf_operator.api import ConditionStatus, ConditionType
from rlhf_operator.decide import Observed, Running, Trouble, decide

Tell = Callable[..., Any]
"""Begins a story: see conftest."""

UNSCHEDULABLE = Trouble("Unschedulable", "pod demo-0 finds no node")
FORBIDDEN = Trouble("Forbidden", "DELETE pytorchjobs/demo: 403: no")


@pytest.mark.parametrize(
    ("suspended", "trouble", "denied", "found"),
    [
        pytest.param(False, None, None, ("True", "AttemptRunning"), id="running"),
        pytest.param(False, UNSCHEDULABLE, None, ("False", "Unschedulable"), id="pods"),
        pytest.param(False, None, FORBIDDEN, ("False", "Forbidden"), id="request"),
        pytest.param(False, UNSCHEDULABLE, FORBIDDEN, ("False", "Unschedulable"), id="both"),
        pytest.param(True, None, None, ("True", "Stopping"), id="stopping"),
        pytest.param(True, UNSCHEDULABLE, None, ("True", "Stopping"), id="stopping-pods"),
        pytest.param(True, None, FORBIDDEN, ("False", "Forbidden"), id="stopping-request"),
        pytest.param(True, UNSCHEDULABLE, FORBIDDEN, ("False", "Forbidden"), id="stopping-both"),
    ],
)
def test_progressing_names_what_keeps_a_live_attempt(
    tell: Tell,
    suspended: bool,  # noqa: FBT001 -- a column of the table
    trouble: Trouble | None,
    denied: Trouble | None,
    found: tuple[ConditionStatus, str],
) -> None:
    story = tell()
    story.after(0)
    seen = Observed({story.run.status.live.key: Running()}, suspended=suspended)
    status = decide(story.run, replace(seen, trouble=trouble, denied=denied), story.now).status
    condition = status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    assert (condition.status, condition.reason) == found
    if denied is not None and found[1] == denied.reason:
        assert condition.message == denied.message
