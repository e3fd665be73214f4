"""Examples that are plain Kubernetes: its schemas take them, and they name the same places."""

from typing import Any

import kubernetes_validate
import pytest
from operating import ROOT
from ruamel.yaml import YAML

from rlhf_operator.api import RLHFRun

EXAMPLES = ROOT / "examples"


def manifests(name: str) -> list[dict[str, Any]]:
    text = (EXAMPLES / name).read_text("utf-8")
    return list(YAML(typ="safe", pure=True).load_all(text))


@pytest.mark.parametrize("name", ["workspace.yaml", "loader.yaml"])
def test_manifests_are_ones_that_kubernetes_takes(name: str) -> None:
    for manifest in manifests(name):
        kubernetes_validate.validate(manifest, "1.36", strict=True)


def test_loader_and_run_use_the_claim_that_is_made() -> None:
    _, claim = manifests("workspace.yaml")
    (loader,) = manifests("loader.yaml")
    (mounted,) = loader["spec"]["volumes"]
    assert mounted["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (run,) = manifests("movie-reviews/rlhfrun-cluster.yaml")
    workspace = RLHFRun.model_validate(run).spec.workspace
    assert workspace is not None
    assert workspace.claim_name == claim["metadata"]["name"]
