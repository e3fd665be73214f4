"""Where a run may go is judged anew with another spec or other pools, and forgotten at its end."""

from collections.abc import Callable

import pytest

from rlhf_operator.api import Pool, RLHFRun, RunOutcome, RunStatus
from rlhf_operator.cluster import placing
from rlhf_operator.cluster.placing import Judge

POOLS = {"local": Pool(name="local")}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[RLHFRun]:
    """What has really been judged."""
    seen: list[RLHFRun] = []
    real = placing.placement_refusal

    def refusal(spec: object, pools: object) -> object:
        seen.append(spec)
        return real(spec, pools)

    monkeypatch.setattr(placing, "placement_refusal", refusal)
    return seen


def test_the_same_spec_and_pools_are_judged_once(
    build_run: Callable[..., RLHFRun], judged: list[RLHFRun]
) -> None:
    judge, run = Judge(lambda: POOLS), build_run()
    assert judge.judge(run).refused is None
    assert judge.judge(run.model_copy(update={"status": RunStatus()})).refused is None
    assert len(judged) == 1
    judge.forget(run.key)
    judge.judge(run)
    assert len(judged) == 2


def test_other_pools_or_another_spec_are_judged_anew(build_run: Callable[..., RLHFRun]) -> None:
    pools = [POOLS]
    judge, run = Judge(lambda: pools[0]), build_run()
    assert judge.judge(run).refused is None
    pools[0] = {"a100": Pool(name="a100")}
    assert judge.judge(run).refused is not None
    assert judge.judge(build_run("spec.placement.pool=a100")).refused is None


def test_a_run_that_is_over_is_not_judged(
    build_run: Callable[..., RLHFRun], judged: list[RLHFRun]
) -> None:
    judge = Judge(dict)
    run = build_run(status=RunStatus(outcome=RunOutcome.COMPLETED))
    assert judge.judge(run).refused is None
    assert judged == []
