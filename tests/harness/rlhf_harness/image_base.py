"""The image that the project's images start from: pulled, or made here where none can be had.

The one made here has Debian's Python of the same version under the same name, so it serves to
build and to try. What is published is built from the real one.
"""

import hashlib
import logging
import time
from collections.abc import Mapping

from rlhf_harness.buildah import Buildah
from rlhf_harness.commands import run
from rlhf_harness.errors import CommandError
from rlhf_harness.packages import ensure_installed

NAME = "python:3.11-slim-bookworm"
"""As the Containerfiles name it."""

PACKAGES: Mapping[str, str] = {"mmdebstrap": "mmdebstrap"}
SUITE, VARIANT = "bookworm", "apt"
CONTENT = ("python3", "python3-venv", "ca-certificates")

_LOCAL = f"localhost/{NAME}"
_PULL_SECONDS = 60

_logger = logging.getLogger(__name__)


def digest() -> str:
    """Tells one base made here from another: they have the same name."""
    return hashlib.sha256(" ".join((NAME, SUITE, VARIANT, *CONTENT)).encode()).hexdigest()


def ensure(buildah: Buildah) -> None:
    """Have the base in this storage."""
    if buildah.has(NAME):
        return
    try:
        buildah.ask("pull", "--quiet", NAME, timeout_seconds=_PULL_SECONDS)
    except CommandError:
        _logger.info("%s cannot be pulled here; making one from Debian's packages", NAME)
        _make(buildah)


def _make(buildah: Buildah) -> None:
    ensure_installed(PACKAGES)
    began = time.monotonic()
    container = buildah.ask("from", "scratch")
    try:
        _fill(buildah.ask("mount", container))
        buildah.ask("umount", container)
        buildah.ask("commit", "--quiet", container, _LOCAL)
    finally:
        buildah.ask("rm", container)
    _logger.info("made %s in %.0f s", NAME, time.monotonic() - began)


def _fill(root: str) -> None:
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", f"--variant={VARIANT}", "--format=directory"),
            f"--include={','.join(CONTENT)}",
            *("--dpkgopt=force-unsafe-io", *left_out, '--aptopt=Acquire::Languages "none"'),
            *(SUITE, root),
        ],
        timeout_seconds=900,
    )
