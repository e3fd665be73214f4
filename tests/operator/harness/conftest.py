"""The harness's own tests use the same cluster as the operator's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "harness"))

from rlhf_harness.fixtures import cluster, control_plane, own_cluster

__all__ = ["cluster", "control_plane", "own_cluster"]
