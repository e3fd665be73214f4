"""Images without an engine: buildah, with a storage of its own outside the tree."""

import json
import logging
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlhf_harness import pip_access
from rlhf_harness.commands import run, succeeds
from rlhf_harness.errors import HarnessError

PACKAGES: Mapping[str, str] = {"buildah": "buildah"}
"""Program -> package."""

TIMEOUT_SECONDS = 3600
"""Longest build: the trainer's packages are gigabytes."""

_logger = logging.getLogger(__name__)

_SETTINGS = """\
[containers]
# What a machine without CAP_SYS_RESOURCE can grant.
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
"""
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_STEP = re.compile(r"STEP \d+/\d+: ")


@dataclass(frozen=True)
class Buildah:
    """The program with one storage."""

    folder: Path

    def ask(self, *arguments: str, timeout_seconds: float = 600) -> str:
        """Run it to its end and return what it printed."""
        return run(
            self.command(*arguments), env=self._environment, timeout_seconds=timeout_seconds
        ).strip()

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        storage = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return ["buildah", *storage, *arguments]

    def has(self, name: str) -> bool:
        """Whether an image of this name is there."""
        return succeeds(self.command("inspect", "--type", "image", name))

    def size_bytes(self, name: str) -> int:
        """What an image holds, to three digits, as buildah tells it."""
        (image,) = json.loads(self.ask("images", "--json", name))
        number, unit = image["size"].split()
        return int(float(number) * _UNITS[unit])

    def build(self, context: Path, containerfile: Path, name: str, **arguments: str) -> None:
        """Build an image, telling its steps; layers that are there are used again."""
        given = [word for one in arguments.items() for word in ("--build-arg", "=".join(one))]
        argv = self.command(
            "build",
            # A build has this machine's network and no rights that it would need a runtime for.
            *("--isolation", "chroot", "--network", "host", "--pull-never", "--layers"),
            *pip_access.mounts(self.folder / "pip"),
            *given,
            *("--file", str(containerfile), "--tag", name, str(context)),
        )
        log = self.folder / f"{containerfile.parent.name}.log"
        with log.open("w", encoding="utf-8", buffering=1) as kept:
            code = self._follow(argv, kept.write)
        if code != 0:
            tail = log.read_text(encoding="utf-8")[-2000:].strip()
            raise HarnessError(f"buildah could not build {containerfile}: {tail}", f"see {log}")

    def _follow(self, argv: list[str], keep: Callable[[str], object]) -> int:
        with subprocess.Popen(
            ["timeout", str(TIMEOUT_SECONDS), *argv],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as build:
            try:
                for line in build.stdout or ():
                    keep(line)
                    if _STEP.search(line):
                        _logger.info("  %s", line.strip()[:100])
                return build.wait()
            finally:
                build.kill()

    @cached_property
    def _environment(self) -> dict[str, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "containers.conf"
        settings.write_text(_SETTINGS, encoding="utf-8")
        return {**os.environ, "CONTAINERS_CONF": str(settings)}
