from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.changes import forbidden_change

BuildRun = Callable[..., RLHFRun]


@pytest.mark.parametrize(
    ("override", "path"),
    [
        pytest.param("spec.ppo.kl.targetNats=3", "spec.ppo.kl.targetNats", id="nested"),
        pytest.param("spec.seed=3", "spec.seed", id="top"),
        pytest.param("spec.sft.from={path: x}", "spec.sft.from", id="appears"),
        pytest.param("spec.deepspeed.overrides={a: 1}", "spec.deepspeed.overrides.a", id="key"),
        pytest.param("spec.guard.kl.limitNats=9", None, id="guard may change"),
        pytest.param("spec.runPolicy.backoffLimit=9", None, id="policy may change"),
        pytest.param("spec.placement.processesPerNode=2", None, id="placement may change"),
    ],
)
def test_forbidden_change_of_a_field_is_named(
    build_run: BuildRun, override: str, path: str | None
) -> None:
    change = forbidden_change(build_run().spec, build_run(override).spec)
    assert (change.path if change else None) == path


def test_forbidden_change_vanished_key_is_named(build_run: BuildRun) -> None:
    change = forbidden_change(build_run("spec.deepspeed.overrides={a: 1}").spec, build_run().spec)
    assert change == ("spec.deepspeed.overrides.a", 1, None)
