"""Runs are read once per state, and their spec is the same object for as long as it is the same."""

from collections.abc import Callable
from typing import Any

import pytest

from rlhf_operator.api import RLHFRun, RunKey
from rlhf_operator.cluster.reading import RunReader
from rlhf_operator.errors import SpecError

KEY = RunKey("a", "demo")
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def told(build_run: Callable[..., RLHFRun]) -> Told:
    """Return a run as the API server tells it: a new object each time."""

    def tell(uid: str = "u", generation: int = 1, override: Any = None, **status: Any) -> Any:
        run = build_run().model_dump(mode="json", by_alias=True, exclude_none=True)
        run["metadata"] = {
            "namespace": "a",
            "name": "demo",
            "uid": uid,
            "generation": generation,
        }
        if override is not None:
            run["spec"]["deepspeed"]["overrides"] = {"zero_optimization": {"x": override}}
        return run | {"status": status}

    return tell


def test_a_state_is_read_once(told: Told) -> None:
    reader, raw = RunReader(), told()
    assert reader.read(KEY, raw) is reader.read(KEY, raw)
    assert reader.read(KEY, told()) is not reader.read(KEY, raw)


def test_another_status_keeps_the_spec_that_was_judged(told: Told) -> None:
    reader = RunReader()
    before, after = reader.read(KEY, told()), reader.read(KEY, told(observedGeneration=1))
    assert isinstance(before, RLHFRun)
    assert isinstance(after, RLHFRun)
    assert after.spec is before.spec
    assert after.status.observed_generation == 1


@pytest.mark.parametrize(
    "change",
    [{"uid": "v"}, {"generation": 2}, {"generation": 2, "override": True}],
    ids=["re-created", "edited-and-back", "1-and-true"],
)
def test_another_run_or_edit_has_its_own_spec(told: Told, change: dict[str, Any]) -> None:
    reader = RunReader()
    before = reader.read(KEY, told(**{"override": 1} if "override" in change else {}))
    after = reader.read(KEY, told(**change))
    assert isinstance(before, RLHFRun)
    assert isinstance(after, RLHFRun)
    assert after.spec is not before.spec
    if "override" in change:
        assert after.spec.deepspeed.overrides == {"zero_optimization": {"x": True}}
        assert after.spec.deepspeed.overrides["zero_optimization"]["x"] is True


def test_unreadable_and_readable_again(told: Told) -> None:
    reader, good = RunReader(), told()
    bad = told()
    bad["spec"]["seed"] = "none"
    reader.read(KEY, good)
    assert isinstance(reader.read(KEY, bad), SpecError)
    assert isinstance(reader.read(KEY, good), RLHFRun)


def test_a_run_that_is_over_or_gone_is_not_kept(told: Told) -> None:
    reader, over = RunReader(), told(outcome="Completed")
    assert reader.read(KEY, over) is not reader.read(KEY, over)
    raw = told()
    before = reader.read(KEY, raw)
    reader.forget(KEY)
    assert reader.read(KEY, raw) is not before
