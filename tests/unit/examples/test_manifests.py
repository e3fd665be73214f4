"""The example for a cluster trains what the example for one machine trains."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXAMPLE = Path(__file__).parents[3] / "examples" / "movie-reviews"


def load(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((EXAMPLE / name).read_text(encoding="utf-8"))


def test_manifest_for_a_cluster_adds_only_where_it_runs() -> None:
    here, there = load("rlhfrun.yaml"), load("rlhfrun-cluster.yaml")
    assert {name for name in there["spec"] if name not in here["spec"]} == {
        "placement",
        "workspace",
    }
    del there["spec"]["placement"], there["spec"]["workspace"]
    assert there == here
