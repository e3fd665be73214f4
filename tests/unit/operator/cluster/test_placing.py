"""Where a run may go is judged anew with another spec or other pools, and forgotten at its end."""

from collections.abc import Callable

import pytest

from rlhf_operator.api import (
    PhaseSize,
    PhaseState,
    Pool,
    RLHFRun,
    RunOutcome,
    RunStatus,
)
from rlhf_operator.cluster import placing
from rlhf_operator.cluster.placing import Judge
from rlhf_operator.decide.sequence import visited
from rlhf_trainer.contract import Phase

POOLS = {"local": Pool(name="local")}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[RLHFRun]:
    """What has really been judged."""
    seen: list[RLHFRun] = []
    real = placing.placement_refusal

    def refusal(spec: object, pools: object, left: object) -> object:
        seen.append(spec)
        return real(spec, pools, left)

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


def come(run: RLHFRun, states: dict[Phase, PhaseState], **sizes: PhaseSize) -> RLHFRun:
    """Return a run whose phases have come so far."""
    phases = tuple(
        phase.evolve(state=states.get(phase.phase, phase.state), size=sizes.get(phase.phase.slug))
        for phase in visited(run).phases
    )
    return run.model_copy(update={"status": RunStatus(phases=phases)})


def test_a_phase_that_is_done_needs_no_pool_any_more(build_run: Callable[..., RLHFRun]) -> None:
    judge = Judge(lambda: POOLS)
    run = build_run("spec.placement.phases={sft: {pool: gone}}")
    assert judge.judge(run).refused is not None
    done = {Phase.PREPARATION: PhaseState.SUCCEEDED, Phase.SFT: PhaseState.SUCCEEDED}
    assert judge.judge(come(run, done)).refused is None


def test_a_phase_that_an_existing_model_replaces_needs_no_pool(
    build_run: Callable[..., RLHFRun],
) -> None:
    run = build_run("spec.placement.phases={sft: {pool: gone}}", "spec.sft.from.path=model")
    assert Judge(lambda: POOLS).judge(run).refused is None


def test_a_phase_that_has_begun_is_judged_by_its_size(build_run: Callable[..., RLHFRun]) -> None:
    pools = {"local": Pool(name="local", maximum_nodes=2)}
    judge, run = Judge(lambda: pools), build_run()
    large = PhaseSize(nodes=4, gpus_per_node=0, processes_per_node=1)
    refused = judge.judge(come(run, {Phase.SFT: PhaseState.BACKING_OFF}, sft=large)).refused
    expected = "spec.placement.pool=local: has 2 nodes, and SFT began with 4; use another pool"
    assert str(refused) == expected
    # Once it is done, only what follows has to fit.
    assert judge.judge(come(run, {Phase.SFT: PhaseState.SUCCEEDED}, sft=large)).refused is None


def test_a_run_that_is_over_is_not_judged(
    build_run: Callable[..., RLHFRun], judged: list[RLHFRun]
) -> None:
    judge = Judge(dict)
    run = build_run(status=RunStatus(outcome=RunOutcome.COMPLETED))
    assert judge.judge(run).refused is None
    assert judged == []
