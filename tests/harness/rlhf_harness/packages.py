"""Debian packages that a node needs: installed when this may be done, named when it may not."""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rlhf_harness.commands import run
from rlhf_harness.errors import CommandError, UnavailableError

_logger = logging.getLogger(__name__)

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where system programs are looked for, also by users whose PATH lacks the sbin folders."""

CNI = Path("/usr/lib/cni")
"""Where Debian puts the CNI plugins."""

CONTROL_PLANE: Mapping[str, str] = {"openssl": "openssl"}
"""Program -> package, for certificates."""

SANDBOX: Mapping[str, str] = {
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""Program -> package, for a cluster's own network, mounts and processes."""

NODE: Mapping[str, str] = {
    "runc": "runc",
    "nft": "nftables",
    f"{CNI}/bridge": "containernetworking-plugins",
}
"""Program -> package, for a real node: a runtime, pod networks, kube-proxy's rules."""


def ensure_installed(programs: Mapping[str, str]) -> None:
    """Install what is missing with apt; UnavailableError names it where that cannot be done."""
    if not missing(programs):
        return
    lock = Path(tempfile.gettempdir()) / f"rlhf-harness-apt-{os.getuid()}.lock"
    with lock.open("a", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        packages = missing(programs)
        if packages:
            _install(packages)
    if left := missing(programs):
        raise UnavailableError(f"still not found after their installation: {', '.join(left)}")


def missing(programs: Mapping[str, str]) -> list[str]:
    """The packages whose programs are not there."""
    absent = {
        package
        for program, package in programs.items()
        if shutil.which(program, path=SEARCH) is None
    }
    return sorted(absent)


def _install(packages: list[str]) -> None:
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnavailableError(
            f"these packages are needed and not installed: {names}",
            f"install them, on Debian with `apt-get install {names}`",
        )
    _logger.info("installing packages that are missing: %s", names)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        run(install, env=environment, timeout_seconds=600)
    except CommandError:  # most often the package lists are absent or old
        try:
            run([*apt, "update"], env=environment, timeout_seconds=600)
            run(install, env=environment, timeout_seconds=600)
        except CommandError as failed:
            raise UnavailableError(f"could not install {names}: {failed}") from failed
