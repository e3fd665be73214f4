"""`--set`, as part of a manifest."""

from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.errors import InvalidManifestError


@pytest.mark.parametrize(
    ("override", "line"),
    [
        pytest.param(
            "spec.ppo.clipRange=2",
            "--set: spec.ppo.clipRange=2: must be below 1; "
            "use a number above 0, below 1 (default 0.2)",
            id="out of bounds",
        ),
        pytest.param(
            "spec.ppo.clipRnge=0.1",
            "--set: spec.ppo.clipRnge=0.1: unknown field; did you mean clipRange?",
            id="unknown",
        ),
        pytest.param(
            "clipRange=0.1",
            "--set=clipRange=0.1: not an override; "
            "write spec.FIELD=VALUE, such as spec.ppo.learningRate=1e-4",
            id="no path",
        ),
        pytest.param(
            "spec.seed",
            "--set=spec.seed: not an override; "
            "write spec.FIELD=VALUE, such as spec.ppo.learningRate=1e-4",
            id="no value",
        ),
        pytest.param(
            "spec.ppo={a: 1",
            "--set: spec.ppo={a: 1: not YAML (expected ',' or '}', but got '<stream end>'); "
            "quote the value",
            id="broken value",
        ),
        pytest.param(
            "spec.model.source.path=x",
            "--set: spec.model.source.path=x: spec.model.source is not a map; "
            "set one of its fields in the manifest first",
            id="through a value",
        ),
    ],
)
def test_override_that_is_bad_is_one_line(
    build_run: Callable[..., RLHFRun], override: str, line: str
) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        build_run(override)
    assert [str(problem) for problem in caught.value.problems] == [line]


def test_overrides_reach_present_absent_and_null_places(
    build_run: Callable[..., RLHFRun],
) -> None:
    run = build_run(
        "spec.seed=2",
        "spec.guard=null",
        "spec.guard.kl.limitNats=9",
        "spec.model.source='7'",
        "metadata.name=x",
    )
    assert (run.spec.seed, run.spec.guard.kl.limit_nats) == (2, 9.0)
    assert (run.spec.model.source, run.metadata.name) == ("7", "x")
