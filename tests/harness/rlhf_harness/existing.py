"""A cluster that somebody else runs, named by RLHF_TEST_KUBECONFIG."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rlhf_harness.binaries import Tools
from rlhf_harness.building import ensure_built
from rlhf_harness.errors import UnavailableError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.options import IMAGE

VARIABLE = "RLHF_TEST_KUBECONFIG"


@dataclass(frozen=True)
class ExistingCluster:
    """Another's cluster: its API can be used, its components cannot be touched."""

    kubernetes: Kubernetes

    @property
    def image(self) -> str:
        """An image for pods, RLHF_TEST_IMAGE: the cluster must be able to pull it."""
        return os.environ.get("RLHF_TEST_IMAGE", IMAGE)


def find(scratch: Path) -> ExistingCluster | None:
    """The cluster that the environment names; None if it names none."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    kubeconfig = Path(named).expanduser()
    if not kubeconfig.is_file():
        raise UnavailableError(
            f"{VARIABLE}={named}: no such file", "name a kubeconfig, or unset it"
        )
    program = shutil.which("kubectl")
    if program is None:
        tools = Tools()
        ensure_built(tools, "core")
        program = tools.path("kubectl")
    return ExistingCluster(Kubernetes(kubeconfig, program, scratch))
