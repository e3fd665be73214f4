"""Exit codes and messages of real containers, as they arrive in the status of their run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rlhf_harness import Cluster
from rlhf_harness.kubernetes import GROUP
from rlhf_harness.waiting import until
from runs import Run
from safetensors.torch import load_file, save_file
from toy import MEMORY_HOG, make_memory_hog

from rlhf_trainer.contract import AttemptPaths, Phase, Workspace

NAMESPACE = "verdicts"

Apply = Callable[..., Run]


@pytest.fixture(scope="module")
def _models(volume: Callable[[str], Path]) -> None:
    """The toy model with a weight that is not a number, and one that pods may not read."""
    data = volume(NAMESPACE) / "data"
    shutil.copytree(data / "base", data / "sick")
    path = data / "sick" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "proj" in name)
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)
    shutil.copytree(data / "base", data / "hidden")
    (data / "hidden" / "model.safetensors").chmod(0o600)


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize(
    ("name", "changes", "reason", "told"),
    [
        (
            "gate",
            {"data": {"comparisons": {"minimumAgreement": {"atLeast": 0.99}}}},
            "AgreementTooLow",
            "minimumAgreement.atLeast=0.99",
        ),
        ("data", {"data": {"prompts": {"path": "absent.jsonl"}}}, "Invalid", "absent.jsonl"),
        ("hidden", {"model": {"source": "hidden"}}, "Invalid", "may not read it; let it: chmod"),
        ("diverges", {"model": {"source": "sick"}}, "NonFinite", "loss"),
    ],
    ids=["gate", "data", "hidden", "diverges"],
)
def test_verdict_of_a_real_phase_ends_the_run(
    apply_real: Apply, name: str, changes: dict[str, Any], reason: str, told: str
) -> None:
    run = apply_real(NAMESPACE, f"real-{name}", **changes)
    finished = run.wait("Finished", seconds=300)
    assert finished["reason"] == reason
    assert told in finished["message"]
    assert run.status["stop"]["by"] == "Trainer"
    assert "kubectl logs" in finished["message"]


def test_claim_that_is_made_for_a_run_is_what_its_pods_write_to(
    apply_real: Apply, cluster: Cluster, volume: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "makes-its-claim"
    shutil.copytree(volume(NAMESPACE) / "data", tmp_path / "data")
    os.chown(tmp_path, -1, GROUP)
    tmp_path.chmod(0o2770)
    metadata = {"name": name}
    place = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "claimRef": {"namespace": NAMESPACE, "name": f"{name}-workspace"},
        "hostPath": {"path": str(tmp_path), "type": "Directory"},
    }
    cluster.kubernetes.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": place}
    )
    workspace = {"claimName": None, "size": "1Gi"}
    run = apply_real(NAMESPACE, name, workspace=workspace, data={"prompts": {"path": "absent"}})
    assert run.wait("Finished", seconds=300)["reason"] == "Invalid"
    root = tmp_path / f"{name}-{run.object['metadata']['uid'][:8]}"
    assert Workspace(root).attempt(1, Phase.PREPARATION, 1).result.exists()


def test_allocator_that_fails_in_a_real_pod_is_told_with_what_to_change(
    apply_real: Apply,
    volume: Callable[[str], Path],
    with_fault: Callable[[str], dict[str, Any]],
) -> None:
    data = volume(NAMESPACE) / "data"
    make_memory_hog(data)
    for path in (data / "large", *(data / "large").iterdir(), data / "long.jsonl"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    fault = with_fault("sft:little-memory")
    run = apply_real(NAMESPACE, "allocates", podTemplate=fault, **MEMORY_HOG)
    finished = run.wait("Finished", seconds=300)
    assert finished["reason"] == "OutOfMemory"
    assert "tokensPerMicroBatch" in finished["message"]
    assert run.status["stop"]["phase"] == "SFT"


@pytest.mark.fault(
    "a pod is evicted",
    "not counted; a new attempt at once",
)
def test_evicted_pod_is_followed_at_once_and_not_counted(
    apply_real: Apply, cluster: Cluster, volume: Callable[[str], Path]
) -> None:
    run = apply_real(
        NAMESPACE,
        "evicted",
        sft={"epochs": 1000, "maximumSteps": 100_000},
        runPolicy={"terminationGracePeriodSeconds": 60},
    )
    root = volume(NAMESPACE) / f"evicted-{run.object['metadata']['uid'][:8]}"
    paths = Workspace(root).attempt(1, Phase.SFT, 1)
    until(lambda: _steps(paths) > 0, "SFT's first step", timeout_seconds=300)
    pod = f"{run.name}-i1-sft-a1-master-0"
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    cluster.kubernetes.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    until(lambda: run.phase("SFT")["attempts"] == 2, "another attempt", timeout_seconds=180)
    assert run.phase("SFT")["failures"] == 0
    assert json.loads(paths.result.read_text("utf-8"))["outcome"] == "Preempted"
    run.delete(wait_seconds=90)


def _steps(paths: AttemptPaths) -> int:
    return len(paths.history.read_text("utf-8").splitlines()) if paths.history.exists() else 0
