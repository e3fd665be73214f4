"""The product as it is installed: the chart by helm, the operator in pods, a real Prometheus."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "operator"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from rlhf_harness import Cluster
from rlhf_harness.fixtures import cluster, control_plane, operator_image, own_cluster
from rlhf_harness.helm import Release
from rlhf_harness.prometheus import Prometheus
from ruamel.yaml import YAML
from story import Story, tell

__all__ = ["cluster", "control_plane", "operator_image", "own_cluster"]

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "examples"


@pytest.fixture(scope="session")
def prometheus(cluster: Cluster) -> Prometheus:
    """Prometheus, which finds its targets as docs/monitoring.md says."""
    return cluster.add_prometheus()


@pytest.fixture(scope="session")
def release(cluster: Cluster, prometheus: Prometheus, operator_image: str) -> Release:
    """The chart, installed by helm: two replicas of the image, with the rights that it gives."""
    assert not prometheus.query("rlhf_operator_leads")
    release = Release(cluster.kubernetes, cluster.tools)
    pools = {"cpu": {}, "real": {"gpusPerNode": 8}}
    image = {"image": operator_image, "runtimeClassName": "runc"}
    release.install({**image, "trainerImage": cluster.image, "pools": pools})
    return release


@pytest.fixture(scope="session")
def volume(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A namespace whose volume holds the data of the examples, copied as docs/cluster.md says."""
    subprocess.run([sys.executable, "-m", "movie_reviews.build"], cwd=ROOT, check=True)
    kubernetes, folder = cluster.kubernetes, tmp_path_factory.mktemp(NAMESPACE)
    kubernetes.namespace(NAMESPACE)
    kubernetes.workspace(NAMESPACE, folder)
    loader = YAML(typ="safe", pure=True).load(
        (ROOT / "examples" / "loader.yaml").read_text("utf-8")
    )
    loader["metadata"]["namespace"] = NAMESPACE
    loader["spec"]["containers"][0]["image"] = cluster.image
    kubernetes.apply(loader)
    there = ("-n", NAMESPACE)
    kubernetes.kubectl("wait", *there, "--for=condition=Ready", "pod/loader", "--timeout=60s")
    kubernetes.kubectl("exec", *there, "loader", "--", "mkdir", "-p", "/volume/data")
    for name in ("base-model", "data"):
        source = str(ROOT / "examples" / "movie-reviews" / name)
        kubernetes.kubectl("cp", *there, source, f"loader:/volume/data/{name}")
    kubernetes.kubectl("delete", *there, "pod/loader", "--grace-period=0", "--force")
    return folder


@pytest.fixture(scope="session")
def story(cluster: Cluster, release: Release, prometheus: Prometheus, volume: Path) -> Story:
    """Three runs beside each other, from apply to verdict, with what befalls them."""
    return tell(cluster, release, prometheus, volume, NAMESPACE)
