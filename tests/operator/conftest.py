"""Every test of the operator uses the same cluster: the one of tests/harness."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from rlhf_harness.fixtures import cluster, control_plane, own_cluster

__all__ = ["cluster", "control_plane", "own_cluster"]
