"""RLHFRuns as the API server keeps and shows them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rlhf_harness.kubernetes import Kubernetes

from rlhf_operator.api import (
    Condition,
    ConditionStatus,
    ConditionType,
    PhaseState,
    PhaseStatus,
    RLHFRun,
    RunStatus,
)
from rlhf_operator.api.manifest import load_manifest, parse_manifest
from rlhf_trainer.contract import Phase

Json = dict[str, Any]

NAMESPACE = "api-rules"
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*/*rlhfrun*.yaml"))

FULL = {
    "sft": {},
    "rewardModel": {"model": {"source": "a"}, "earlyStopping": {}},
    "ppo": {"epochs": 2, "updateKl": {"limitNatsPerToken": 0.1}},
    "evaluation": {"judge": {}},
    "guard": {
        "kl": {},
        "entropy": {"floorNatsPerToken": 0.1},
        "length": {"growthFactor": 2},
    },
    "placement": {
        "tolerations": [{"key": "a"}],
        "phases": {"ppo": {"nodes": 1}, "preparation": {}},
    },
    "podTemplate": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
        "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}],
        "volumeMounts": [{"name": "a", "mountPath": "/a"}],
    },
}


def manifest(name: str, **spec: Any) -> Json:
    data = {kind: {"path": kind} for kind in ("demonstrations", "prompts")}
    data["comparisons"] = {"path": "comparisons", "minimumAgreement": {}}
    return {
        "apiVersion": "rlhf.dev/v1alpha1",
        "kind": "RLHFRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": {"source": "base"}, "data": data, **spec},
    }


def without_empty(tree: Any) -> Any:
    """Return JSON without what is null, or an empty map."""
    if isinstance(tree, dict):
        kept = {name: without_empty(value) for name, value in tree.items() if value is not None}
        return {name: value for name, value in kept.items() if value != {}}
    return [without_empty(value) for value in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("spec", [{}, FULL], ids=["nothing set", "every object begun"])
def test_defaults_of_the_server_are_those_of_the_models(
    create: Callable[[Json], Json], spec: Json
) -> None:
    wanted = manifest(f"defaults-{len(spec)}", **spec)
    stored = create(wanted)
    run = parse_manifest(json.dumps(wanted), "run.yaml")
    ours = run.spec.model_dump(mode="json", by_alias=True)
    assert without_empty(stored["spec"]) == without_empty(ours)
    assert RLHFRun.model_validate(stored).spec == run.spec


def test_there_are_examples() -> None:
    assert {"kl-breach", "movie-reviews"} <= {example.parent.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_example_is_taken_as_it_is(api: Kubernetes, example: Path) -> None:
    command = ("apply", "--dry-run=server", "-n", NAMESPACE, "-f", str(example))
    assert "created (server dry run)" in api.kubectl(*command)
    load_manifest(example)


def test_status_is_written_by_its_own_way_only_and_shown_in_columns(
    api: Kubernetes, create: Callable[[Json], Json]
) -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    metrics = {"klNats": 5.0321234, "rewardScore": 0.75, "entropyNatsPerToken": 2.5}
    done = PhaseStatus(iteration=1, phase=Phase.SFT, state=PhaseState.SUCCEEDED, attempts=1)
    ppo = PhaseStatus(iteration=1, phase=Phase.PPO, attempts=1, step=7, metrics=metrics)
    condition = Condition(
        type=ConditionType.ACCEPTED,
        status=ConditionStatus.TRUE,
        last_transition_time=noon,
        reason="Valid",
    )
    status = RunStatus(phase="PPO", start_time=noon, conditions=(condition,), phases=(done, ppo))
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert "status" not in create({**manifest("shown"), "status": dumped})
    patch = json.dumps({"status": dumped})
    api.kubectl(
        *("patch", "rlhf", "shown", "-n", NAMESPACE, "--subresource=status"),
        *("--type=merge", f"--patch={patch}"),
    )
    stored = api.get("rlhf", "shown", "-n", NAMESPACE)
    assert RLHFRun.model_validate(stored).status == status
    head, row = api.kubectl("get", "rlhf", "shown", "-n", NAMESPACE).splitlines()
    assert head.split() == ["NAME", "PHASE", "STEP", "KL", "REWARD", "ENTROPY", "AGE"]
    assert row.split()[:-1] == ["shown", "PPO", "7", "5.032", "0.75", "2.5"]


@pytest.mark.parametrize("category", ["all", "kubeflow"])
def test_run_is_listed_with_its_category(
    api: Kubernetes, create: Callable[[Json], Json], category: str
) -> None:
    create(manifest("listed"))
    assert "rlhfrun.rlhf.dev/listed" in api.kubectl("get", category, "-n", NAMESPACE, "-o", "name")


def test_explain_tells_a_field(api: Kubernetes) -> None:
    text = api.kubectl("explain", "rlhfrun.spec.ppo.clipRange")
    assert "Clipping of the probability ratio, epsilon." in text
