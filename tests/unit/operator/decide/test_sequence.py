from collections.abc import Callable
from datetime import datetime, timedelta

from rlhf_operator.api import PhaseSize, RLHFRun
from rlhf_operator.decide import Ended
from rlhf_operator.decide.sequence import begun, visited
from rlhf_operator.decide.settle import abandoned, settled
from rlhf_trainer.contract import Phase

GPUS = ("spec.placement={nodes: 2, gpusPerNode: 4}", "spec.workspace.accessMode=ReadWriteMany")


def test_begun_phase_keeps_the_size_of_its_first_attempt(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    first, resized = build_run(*GPUS), build_run("spec.placement.gpusPerNode=8")
    sft = visited(first).phases[1]
    status = begun(visited(first), sft, first, noon)
    assert status.phases[1].size == PhaseSize(nodes=2, gpus_per_node=4, processes_per_node=4)
    again = begun(status, status.phases[1], resized, noon)
    assert again.phases[1].size == status.phases[1].size
    ppo = begun(again, again.phases[3], resized, noon).phases[3]
    assert ppo.size == PhaseSize(nodes=1, gpus_per_node=8, processes_per_node=8)


def test_begun_phase_names_its_job_in_a_cluster_only(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    run = build_run()
    metadata = run.metadata.evolve(namespace="research")
    in_cluster = run.model_copy(update={"metadata": metadata})
    for of, name in ((run, None), (in_cluster, "demo-i1-preparation-a1")):
        assert begun(visited(of), visited(of).phases[0], of, noon).phases[0].job == name


def test_abandoned_first_attempt_leaves_the_size_open(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    run = build_run(*GPUS)
    status = begun(visited(run), visited(run).phases[1], run, noon)
    live = status.live
    assert live is not None
    assert abandoned(status, live).phases[1].size is None
    # What one attempt has begun another one goes on with.
    status = settled(status, live, Ended(1), run.spec, noon)
    again = begun(status, status.phases[1], run, noon)
    live = again.live
    assert live is not None
    assert abandoned(again, live).phases[1].size == status.phases[1].size


def test_settled_attempts_add_up_gpu_seconds(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    run = build_run(*GPUS)
    status = visited(run)
    for number, seconds in ((1, 90), (2, 10)):
        status = begun(status, status.phases[1], run, noon)
        live = status.live
        assert live is not None
        assert live.key == (1, Phase.SFT, number)
        now = noon + timedelta(seconds=seconds)
        status = settled(status, live, Ended(1), run.spec, now)
    assert status.phases[1].gpu_seconds == 8 * (90 + 10)
