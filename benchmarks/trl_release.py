"""TRL beside our own packages: installed once per version, outside the tree and the environment.

TRL is asked for without its dependencies: torch, transformers and the rest are the environment's,
so that both sides compute with the same libraries. Whoever uses it does so in a process of its own.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

WITH_PPO = "1.12.0"
"""The last release with PPO; 1.13 dropped it."""
NEWEST = "1.16.0"

_TIMEOUT_SECONDS = 600
_SETTINGS = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "CUDA_VISIBLE_DEVICES": ""}


class ReleaseUnavailableError(Exception):
    """This machine cannot get that release of TRL."""


@dataclass(frozen=True)
class Release:
    """One release of TRL, in a folder of its own."""

    version: str

    @property
    def folder(self) -> Path:
        """Where it lies: complete, or not there."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "rlhf-operator" / f"trl-{self.version}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process that is to find it is started with, over this one's environment."""
        return os.environ | _SETTINGS | {"PYTHONPATH": str(self.folder)}

    def ensure_installed(self, say: Callable[[str], None]) -> None:
        """Install it if it is not there, however many ask for it at the same time.

        Raises:
            ReleaseUnavailableError: it cannot be downloaded.
        """
        if self.folder.exists():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.exists():
                say(f"installing trl {self.version} into {self.folder}, once")
                self._install()

    def _install(self) -> None:
        partial = self.folder.with_name(f"{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        done = subprocess.run(  # noqa: S603 - all arguments are written here
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install"),
                *("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("--target", str(partial), "-r", str(HERE / f"trl-{self.version}.txt")),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        if done.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            problem = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            if "DO NOT MATCH THE HASHES" in done.stderr:
                raise AssertionError(done.stderr)
            raise ReleaseUnavailableError(f"trl {self.version} cannot be installed: {problem}")
        partial.replace(self.folder)
