"""The example of a queue: its run, its quotas and the pools that it speaks of belong together."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rlhf_operator.api import AttemptKey, Pool, RLHFRun, placed
from rlhf_operator.render import pytorch_job
from rlhf_trainer.contract import Phase

Json = dict[str, Any]

EXAMPLES = Path(__file__).parents[3] / "examples"
GUIDE = (EXAMPLES.parent / "docs" / "install.md").read_text("utf-8")


def load(path: Path) -> list[Json]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text("utf-8")))


MANIFESTS = [one for path in sorted((EXAMPLES / "kueue").glob("*.yaml")) for one in load(path)]
(POOLS,) = load(EXAMPLES / "pools.yaml")


def only(kind: str, name: str = "") -> Json:
    (found,) = (
        one for one in MANIFESTS if one["kind"] == kind and name in ("", one["metadata"]["name"])
    )
    return found


RUN = RLHFRun.model_validate(only("RLHFRun"))


def amount(text: object) -> int:
    return int(str(text).removesuffix("Gi"))


def pool_of(phase: Phase) -> Pool:
    name = placed(RUN.spec.placement, phase).pool
    return Pool.model_validate({**POOLS["pools"][name], "name": name}, by_alias=True)


def job_of(phase: Phase) -> Json:
    key = AttemptKey(1, phase, 1)
    return pytorch_job(RUN, key, pool_of(phase), image="trainer:1", config_digest="a")


def asked(phase: Phase) -> Counter[str]:
    """Return what all pods of a phase's job ask for."""
    total: Counter[str] = Counter()
    for replica in job_of(phase)["spec"]["pytorchReplicaSpecs"].values():
        (container,) = replica["template"]["spec"]["containers"]
        for name, text in container.get("resources", {}).get("limits", {}).items():
            total[name] += replica["replicas"] * amount(text)
    return total


@pytest.mark.parametrize("phase", Phase)
def test_jobs_name_the_queue_and_the_priority_of_the_example(phase: Phase) -> None:
    queue, labels = only("LocalQueue"), job_of(phase)["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    applied = f"kubectl apply -n {queue['metadata']['namespace']} -f examples/kueue/rlhfrun.yaml"
    assert applied in GUIDE
    assert only("WorkloadPriorityClass", labels["kueue.x-k8s.io/priority-class"])
    assert only("ClusterQueue", queue["spec"]["clusterQueue"])


@pytest.mark.parametrize("phase", Phase)
def test_flavour_of_a_phase_has_a_quota_for_all_that_it_asks_for(phase: Phase) -> None:
    pool, wanted = pool_of(phase), asked(phase)
    (group,) = only("ClusterQueue")["spec"]["resourceGroups"]
    (quotas,) = (
        {one["name"]: amount(one["nominalQuota"]) for one in flavour["resources"]}
        for flavour in group["flavors"]
        if flavour["name"] == pool.name
    )
    assert list(quotas) == group["coveredResources"]
    assert wanted.keys() <= quotas.keys()
    assert all(count <= quotas[name] for name, count in wanted.items())
    assert bool(wanted["nvidia.com/gpu"]) is (phase is not Phase.PREPARATION)
    labels = only("ResourceFlavor", pool.name).get("spec", {}).get("nodeLabels", {})
    assert labels == pool.node_selector
