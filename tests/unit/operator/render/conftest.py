"""A run as a cluster hands it out, and golden manifests."""

import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rlhf_operator.api import Pool, RLHFRun
from rlhf_operator.render import parse_pools

GOLDEN = Path(__file__).parent / "golden"
POOLS = Path(__file__).resolve().parents[4] / "examples" / "pools.yaml"

UPDATE = "RLHF_TEST_UPDATE_GOLDEN"
"""Set it to write golden files anew; then read what has changed."""


@pytest.fixture(scope="session")
def cluster_run(build_run: Callable[..., RLHFRun]) -> Callable[..., RLHFRun]:
    """Build a run with the identity that an API server gives it."""

    def build(*overrides: str) -> RLHFRun:
        run = build_run(*overrides)
        identity = {"namespace": "research", "uid": "4c440fa5-afd9-4fa2-96c5-c8ca1757eab0"}
        return run.model_copy(update={"metadata": run.metadata.evolve(**identity)})

    return build


@pytest.fixture(scope="session")
def pools() -> dict[str, Pool]:
    """The pools of the examples, as the chart hands them to the operator."""
    yaml = YAML(typ="safe", pure=True)
    declared = yaml.load(POOLS.read_text(encoding="utf-8"))["pools"]
    return parse_pools({name: _text(pool) for name, pool in declared.items()})


@pytest.fixture(scope="session")
def assert_golden() -> Callable[[str, dict[str, Any] | None], None]:
    """Compare a manifest with its golden file."""

    def check(name: str, manifest: dict[str, Any] | None) -> None:
        path, text = GOLDEN / f"{name}.yaml", _text(manifest)
        if os.environ.get(UPDATE):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"set {UPDATE}=1 to write it anew"

    return check


def _text(tree: object) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 1000
    yaml.representer.ignore_aliases = lambda _: True
    yaml.representer.add_representer(str, _block)
    output = StringIO()
    yaml.dump(tree, output)
    return output.getvalue()


def _block(representer: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)
