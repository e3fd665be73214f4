"""The `host` runtime: pods run this machine's Python and this checkout, read-only.

An image with the project's five gigabytes of dependencies takes minutes to build; here a pod's
root is empty, and containerd mounts the same interpreter, virtual environment and sources that
the tests themselves run with. The pod has no hostPath for it, so Pod Security does not mind.
"""

import json
import os
import sys
from pathlib import Path

from rlhf_harness.commands import run
from rlhf_harness.context import Context

REPOSITORY = Path(__file__).resolve().parents[3]
"""The checkout: an editable installation points into it."""

_SYSTEM = "/usr/local/bin:/usr/bin:/bin"


def mounts() -> list[Path]:
    """The folders that pods see: system, interpreter, virtual environment, sources.

    A virtual environment only points at the interpreter that made it, so that one is needed too;
    RLHF_TEST_HOST_MOUNTS adds folders, separated by colons. None lies inside another.
    """
    added = os.environ.get("RLHF_TEST_HOST_MOUNTS", "")
    wanted = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    wanted += [Path("/etc/ssl/certs"), *(Path(one) for one in added.split(":") if one)]
    # Under the name by which it is asked for, and under the one that links lead to.
    present = {
        name for path in wanted if path.exists() for name in (path.absolute(), path.resolve())
    }
    return sorted(one for one in present if not any(other in one.parents for other in present))


def variables() -> dict[str, str]:
    """The environment inside: `python` is the interpreter that runs this, and finds what it does.

    A checkout that is not the installed one is found by PYTHONPATH.
    """
    found = [one for one in os.environ.get("PYTHONPATH", "").split(":") if one.startswith("/")]
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{_SYSTEM}",
        **({"PYTHONPATH": ":".join(found)} if found else {}),
    }


def base_specification(context: Context) -> Path:
    """Write what containerd starts from for a container of this runtime."""
    specification = json.loads(run([context.tools.path("ctr"), "oci", "spec"]))
    # Raising a hard limit needs a capability that machines in the cloud often lack.
    specification["process"].pop("rlimits", None)
    specification["mounts"] += [
        {
            "destination": str(folder),
            "source": str(folder),
            "type": "bind",
            "options": ["rbind", "ro", "nosuid"],
        }
        for folder in mounts()
    ]
    return context.state.write("host-runtime.json", json.dumps(specification))
