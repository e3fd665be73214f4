"""Real pods: data on the volume of a namespace that enforces `restricted`."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operating import OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.fixtures import operator_image
from runs import Run, manifest, merged

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "trainer"))

from toy import make_run, training_config

__all__ = ["operator_image"]

HERE = Path(__file__).resolve().parent

REAL = {"rlhf.test/real": "yes"}


def environment() -> dict[str, Any]:
    """What pods need to find this checkout where it is not the installed one."""
    found = os.environ.get("PYTHONPATH", "")
    variables = {"OMP_NUM_THREADS": "1", **({"PYTHONPATH": found} if found else {})}
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


@pytest.fixture(scope="session")
def with_fault() -> Callable[[str], dict[str, Any]]:
    """Return the part of a pod template by which a real pod has a fault: see `faults`."""

    def template(fault: str) -> dict[str, Any]:
        found = os.environ.get("PYTHONPATH", "")
        variables = {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join(filter(None, ("/data/faults", found))),
            "RLHF_TEST_FAULT": fault,
        }
        return {"env": [{"name": name, "value": value} for name, value in variables.items()]}

    return template


@pytest.fixture(scope="session")
def real_node(cluster: Cluster) -> Cluster:
    """The cluster, its real node labelled as the pools want it."""
    for node in cluster.nodes:
        labels = [f"{key}={value}" for key, value in REAL.items()]
        cluster.kubernetes.kubectl("label", "node", node.name, "--overwrite", *labels)
    return cluster


@pytest.fixture(scope="session")
def volume(real_node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a namespace whose workspace holds the toy run's data; return the volume's folder."""
    made: dict[str, Path] = {}

    def volume(namespace: str) -> Path:
        if namespace not in made:
            folder = tmp_path_factory.mktemp(namespace)
            make_run(_folder(folder / "data"))
            shutil.copytree(HERE / "faults", folder / "data" / "faults")
            _offer(real_node, namespace, folder)
            made[namespace] = folder
        return made[namespace]

    return volume


@pytest.fixture
def apply_real(
    real_node: Cluster, operator: OperatorProcess, volume: Callable[[str], Path]
) -> Callable[..., Run]:
    """Make a toy run that is really trained, `spec` merged in."""
    assert operator.process is not None, "an earlier test left the operator stopped"

    def apply(namespace: str, name: str, **spec: Any) -> Run:
        volume(namespace)
        base = merged(training_config(), {"podTemplate": environment()})
        base["placement"] = {"pool": "cpu"}
        real_node.kubernetes.apply(manifest(namespace, name, **merged(base, spec)))
        return Run(real_node.kubernetes, namespace, name)

    return apply


def _offer(cluster: Cluster, namespace: str, folder: Path) -> None:
    """Make a namespace whose claim `workspace` is this folder; pods are somebody else."""
    _readable(folder / "data")
    cluster.kubernetes.namespace(namespace)
    cluster.kubernetes.workspace(namespace, folder)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _readable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
