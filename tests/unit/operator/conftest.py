"""Builders of runs and of what is seen of them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from rlhf_operator.api import AttemptKey, RLHFRun, RunStatus
from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.decide import Execution, Observed

MANIFEST = """\
apiVersion: rlhf.dev/v1alpha1
kind: RLHFRun
metadata:
  name: demo
spec:
  model:
    source: base
  data:
    demonstrations: {path: demonstrations.jsonl}
    comparisons: {path: comparisons.jsonl}
    prompts: {path: prompts.jsonl}
"""


@pytest.fixture(scope="session")
def manifest_text() -> str:
    """The smallest manifest; what is added to it, indented by four, goes on in `spec.data`."""
    return MANIFEST


@pytest.fixture(scope="session")
def build_run() -> Callable[..., RLHFRun]:
    """Build a run from the smallest manifest, `--set` overrides and a status."""

    def build(*overrides: str, status: RunStatus | None = None) -> RLHFRun:
        run = parse_manifest(MANIFEST, "rlhfrun.yaml", overrides)
        return run.model_copy(update={"status": status}) if status else run

    return build


@pytest.fixture(scope="session")
def see() -> Callable[..., Observed]:
    """Build what is seen of a run on the local pool."""

    def build(
        executions: dict[AttemptKey, Execution] | None = None, *, suspended: bool = False
    ) -> Observed:
        return Observed(executions or {}, suspended=suspended)

    return build


@pytest.fixture(scope="session")
def noon() -> datetime:
    """When tests begin."""
    return datetime(2026, 11, 24, 12, tzinfo=UTC)
