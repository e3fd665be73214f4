"""Install, upgrade, roll back and uninstall by the real helm, while a run is live."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from charting import Helm
from operating import CHART, CRD, POOLS, OperatorProcess
from rlhf_harness import Cluster
from rlhf_harness.waiting import until
from ruamel.yaml import YAML
from runs import Run, manifest

RELEASE, NAMESPACE, RUNS = "live", "chart-live", "chart-runs"
DEFINITION = "rlhfruns.rlhf.dev"


@dataclass
class Release:
    """The chart as it is installed, its pods running on a real node."""

    cluster: Cluster
    helm: Helm
    values: str

    def do(self, *arguments: str) -> str:
        where = ("--namespace", NAMESPACE)
        kubeconfig = self.cluster.kubernetes.kubeconfig
        return self.helm(*arguments, *where, kubeconfig=kubeconfig)

    def install(self, *options: str) -> str:
        return self.do("install", RELEASE, str(CHART), self.values, *options)

    def wait(self) -> None:
        """Return when the pods of the newest revision are ready, and the others gone."""
        where = ("-n", NAMESPACE)
        kubernetes = self.cluster.kubernetes
        rollout = ("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
        kubernetes.kubectl(*rollout, *where, timeout_seconds=130)
        until(lambda: len(self.pods()) == 2, lambda: f"two pods: {self.pods()}", timeout_seconds=60)

    def pods(self) -> list[str]:
        label = f"app.kubernetes.io/instance={RELEASE}"
        found = self.cluster.kubernetes.get("pods", "-n", NAMESPACE, "-l", label)["items"]
        return [one["metadata"]["name"] for one in found]

    def leader(self) -> str:
        """Return the pod that holds the lease; its name is the start of its identity."""
        lease = self.cluster.kubernetes.get("lease", RELEASE, "-n", NAMESPACE)
        return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]

    def columns(self) -> list[str]:
        """Return the columns by which the server shows runs."""
        (version,) = self.cluster.kubernetes.get("crd", DEFINITION)["spec"]["versions"]
        return [one["name"] for one in version["additionalPrinterColumns"]]


@pytest.fixture
def release(
    cluster: Cluster, helm: Helm, unattended: OperatorProcess, tmp_path: Path
) -> Iterator[Release]:
    """The chart, not installed yet; nobody else looks after runs."""
    assert unattended.process is None
    cluster.kubernetes.namespace(NAMESPACE)
    cluster.kubernetes.namespace(RUNS)
    cluster.kubernetes.workspace(RUNS, tmp_path / "workspace")
    found = os.environ.get("PYTHONPATH", "")
    values = {
        "image": cluster.image,
        "trainerImage": cluster.image,
        "pools": POOLS,
        "env": [{"name": "PYTHONPATH", "value": found}] if found else [],
    }
    yield Release(cluster, helm, helm.values(values))
    if helm("list", "-q", "-n", NAMESPACE, kubeconfig=cluster.kubernetes.kubeconfig).strip():
        helm("uninstall", RELEASE, "-n", NAMESPACE, kubeconfig=cluster.kubernetes.kubeconfig)
    cluster.kubernetes.apply(CRD)


def next_chart(folder: Path) -> Path:
    """Return the chart's next version: its definition of RLHFRun has a column more."""
    chart = shutil.copytree(CHART, folder / "next")
    yaml = YAML(typ="rt", pure=True)
    about = yaml.load(chart / "Chart.yaml")
    about["version"] = "0.2.0"
    yaml.dump(about, chart / "Chart.yaml")
    (path,) = (chart / "definitions").iterdir()
    tree = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    (version,) = tree["spec"]["versions"]
    column = {"name": "Cause", "type": "string", "jsonPath": ".status.outcome"}
    version["additionalPrinterColumns"].append(column)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return chart


def identity(run: Run) -> dict[str, Any]:
    """Return everything of a run that an installation must leave alone."""
    found, status = run.object, run.status
    job = run.kubernetes.get("pytorchjob", "stays-i1-preparation-a1", "-n", RUNS)
    (pod,) = run.pods()
    return {
        "uid": found["metadata"]["uid"],
        "generation": found["metadata"]["generation"],
        "spec": found["spec"],
        "phase": status["phase"],
        # What was last seen of the attempt that runs is the operator's to write, and no more.
        "phases": [{**phase, "running": None} for phase in status["phases"]],
        "job": (job["metadata"]["uid"], job["metadata"]["generation"]),
        "pod": (pod["metadata"]["uid"], pod["status"]["phase"]),
    }


def test_live_run_is_left_alone_from_install_to_uninstall(release: Release, tmp_path: Path) -> None:
    kubernetes = release.cluster.kubernetes
    # The definition has been applied by hand before: the release takes it over.
    said = release.install("--take-ownership")
    assert "kubectl apply -n default -f rlhfrun.yaml" in said
    release.wait()
    kubernetes.apply(manifest(RUNS, "stays"))
    run = Run(kubernetes, RUNS, "stays")
    until(lambda: run.phase("Preparation").get("state") == "Running", lambda: str(run.status))
    before, columns, pods = identity(run), release.columns(), release.pods()

    release.do("upgrade", RELEASE, str(next_chart(tmp_path)), release.values)
    release.wait()
    assert release.columns() == [*columns, "Cause"]
    assert not set(release.pods()) & set(pods)
    until(lambda: release.leader() in release.pods(), "a new leader", timeout_seconds=60)
    assert identity(run) == before

    release.do("rollback", RELEASE, "1")
    release.wait()
    assert release.columns() == columns
    assert identity(run) == before

    release.do("uninstall", RELEASE)
    until(lambda: not release.pods(), "the operator to be gone", timeout_seconds=60)
    assert identity(run) == before
    # Nobody's hands are on it any more, and it is still there for the next installation.
    assert kubernetes.get("crd", DEFINITION)["metadata"]["annotations"]["helm.sh/resource-policy"]

    release.install()
    release.wait()
    until(lambda: release.leader() in release.pods(), "a leader", timeout_seconds=60)
    assert identity(run) == before
    run.delete()
    assert not run.exists()
