from collections.abc import Callable

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.local import local_refusal

SHARED = "spec.workspace.accessMode=ReadWriteMany"

CASES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "nothing of a cluster": ((), None),
    "what only pods need is ignored": (
        (
            "spec.image=trainer:1",
            "spec.workspace.claimName=shared",
            "spec.placement.queueName=research",
            "spec.placement.podGroup={queue: research}",
            "spec.podTemplate.labels={team: nlp}",
            "spec.runPolicy.ttlSecondsAfterFinished=60",
            "spec.monitoring.scrapeIntervalSeconds=5",
        ),
        None,
    ),
    "suspended": (
        ("spec.runPolicy.suspend=true",),
        (
            "spec.runPolicy.suspend=true: `rlhf run` runs at once, and pauses when it is "
            "interrupted; add --set spec.runPolicy.suspend=false"
        ),
    ),
    "stopped from outside alone": (
        ("spec.guard.kl.enforcedBy=[Operator]",),
        (
            "spec.guard.kl.enforcedBy=Operator: `rlhf run` has no operator, and nobody would stop "
            "the run; add --set 'spec.guard.kl.enforcedBy=[Trainer]'"
        ),
    ),
    "a phase elsewhere": (
        ("spec.placement.phases.ppo.pool=a100",),
        "spec.placement.phases.ppo.pool=a100: no such pool here; use one of: local",
    ),
    "a phase on two nodes": (
        ("spec.placement.phases.sft.nodes=2", SHARED),
        (
            "spec.placement.phases.sft.nodes=2: this machine is one node; "
            "use at most 1, or another pool"
        ),
    ),
}


@pytest.mark.parametrize(("overrides", "message"), CASES.values(), ids=CASES)
def test_refusal_says_what_means_something_else_here(
    build_run: Callable[..., RLHFRun], overrides: tuple[str, ...], message: str | None
) -> None:
    refused = local_refusal(build_run(*overrides).spec)
    assert (str(refused) if refused else None) == message
