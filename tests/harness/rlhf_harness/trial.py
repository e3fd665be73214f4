"""`make cluster`: a cluster to try the project in, with everything installed and data to train on.

A second start finds what the first one made and brings the release up to date with the checkout.
"""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from rlhf_harness import built_images, prometheus, sandbox, state
from rlhf_harness.binaries import Tools
from rlhf_harness.cluster import Cluster
from rlhf_harness.commands import run
from rlhf_harness.errors import HarnessError, UnavailableError
from rlhf_harness.helm import Release
from rlhf_harness.host_runtime import REPOSITORY
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.options import IMAGE, ClusterOptions, NodeOptions

_logger = logging.getLogger(__name__)

NAME = "local"
NAMESPACE = "research"
"""Where people apply their runs, as docs/cluster.md does; its claim is called `workspace`."""

POOLS = REPOSITORY / "examples" / "pools.yaml"
EXAMPLE = REPOSITORY / "examples" / "movie-reviews"

_NODE = "node1"

_LABELS = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
"""Of the node: runs in the pool a100-80gb are placed on it, and train on its processors."""

_POOLS = {"a100-80gb": {"extraResources": {"cpu": "1", "memory": "4Gi"}}}
"""In place of what the example asks for: this machine has no hundred processors."""

_SUMMARY = """
The cluster runs: API server, scheduler, training operator, Prometheus, and {nodes}.
{operator}
The trainer runs this checkout by the runtime `host`, without its image of five gigabytes.

  export KUBECONFIG={kubeconfig}
  export PATH={programs}:$PATH      # kubectl and helm
  Prometheus, API only      curl '{prometheus}/api/v1/query?query=rlhf_kl_nats'
  volume of `{namespace}`      {volume}

next: kubectl apply -n {namespace} -f {manifest}
      kubectl get rlhf -n {namespace} -w
end:  make cluster-down
"""


def start() -> str:
    """Start the cluster, or bring the one that runs up to date; what people need to know of it."""
    found = state.load(NAME)
    if found is None or not found.alive:
        _start()
        found = state.load(NAME)
    if found is None:
        raise HarnessError(f"cluster {NAME!r} left no record", "run it again")
    dead = [name for name, process in found.processes.items() if not process.alive]
    if dead:
        raise HarnessError(
            f"of the cluster that runs, {', '.join(dead)} ended",
            f"see {found.logs}; then make cluster-down, and start it again",
        )
    tools = Tools()
    kubernetes = Kubernetes(found.kubeconfig, tools.path("kubectl"), found.folder)
    volume = found.folder / "volumes" / NAMESPACE
    _fill(kubernetes, volume)
    chosen, told = _operator(found, tools)
    _logger.info("installing the chart")
    values = {**chosen, "trainerImage": IMAGE, "pools": _POOLS}
    Release(kubernetes, tools).install(values, files=[POOLS])
    return _SUMMARY.format(
        nodes="a node (8 GPUs are declared; none is there)",
        operator=told,
        kubeconfig=found.kubeconfig,
        programs=tools.folder,
        prometheus=prometheus.url(urlsplit(kubernetes.server()[0]).hostname or ""),
        namespace=NAMESPACE,
        volume=volume,
        manifest=(EXAMPLE / "rlhfrun-cluster.yaml").relative_to(REPOSITORY),
    )


def _start() -> None:
    started = Cluster(ClusterOptions(name=NAME))
    try:
        started.up()
        started.add_node(NodeOptions(labels=_LABELS))
        started.add_prometheus()
    except BaseException:
        started.down()
        raise


def _operator(found: state.State, tools: Tools) -> tuple[dict[str, str], str]:
    """Values of the chart for the operator's own image, or for this checkout; and what is so."""
    try:
        image = built_images.operator()
    except UnavailableError as unable:
        told = f"The operator runs this checkout by the runtime `host`; its image: {unable}."
        return {"image": IMAGE}, told
    ctr = [tools.path("ctr"), "--address", f"/run/{_NODE}/containerd.sock", "-n", "k8s.io"]
    known = run(sandbox.inside(found, [*ctr, "images", "list", "-q"])).split()
    if image.name not in known:
        archive = str(image.archive)
        run(
            sandbox.inside(found, [*ctr, "images", "import", "--local", archive]),
            timeout_seconds=600,
        )
    return (
        {"image": image.name, "runtimeClassName": "runc"},
        f"The operator runs from its image, {image.name}.",
    )


def _fill(kubernetes: Kubernetes, volume: Path) -> None:
    """Put the examples' data where pods see it as /data; the volume is a folder of this machine."""
    kubernetes.namespace(NAMESPACE)
    kubernetes.workspace(NAMESPACE, volume)
    _logger.info("making the example's data")
    subprocess.run([sys.executable, "-m", "movie_reviews.build"], cwd=REPOSITORY, check=True)
    for name in ("base-model", "data"):
        shutil.copytree(EXAMPLE / name, volume / "data" / name, dirs_exist_ok=True)
    for path in (volume / "data", *(volume / "data").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
