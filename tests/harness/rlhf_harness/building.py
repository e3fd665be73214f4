"""Building a set of programs once, with progress, however many ask for it at the same time."""

import fcntl
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_harness import assets
from rlhf_harness.binaries import SETS, Tools
from rlhf_harness.commands import run
from rlhf_harness.errors import HarnessError, UnavailableError
from rlhf_harness.waiting import until

_logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 3600
"""Longest build: the core set takes ten CPU-minutes cold, and other work may hold the cores."""

_PROGRESS_SECONDS = 20
_SETTINGS = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


def ensure_built(tools: Tools, *names: str) -> None:
    """Build the sets that are not there yet; waits if another process is building them."""
    for name in names:
        held = tools.holding(name)
        if held.is_built(name):
            continue
        held.cache.mkdir(parents=True, exist_ok=True)
        with locked(held.cache / "lock"):
            if not held.is_built(name):
                _build(held, name)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock; the kernel gives it back when this process ends, however it ends."""
    with path.open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.info("another process is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(tools: Tools, name: str) -> None:
    if shutil.which("go") is None:
        raise UnavailableError(
            "the cluster's programs are built from Go modules and there is no `go`",
            f"install the Go that {tools.module / 'go.mod'} names",
        )
    began = time.monotonic()
    _logger.info("building %s (%s), once for this pin", name, ", ".join(SETS[name]))
    output = tools.cache / f"{name}.partial"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    _compile(tools, name, output)
    tools.folder.mkdir(exist_ok=True)
    for program, package in SETS[name].items():
        (output / _built_name(package)).replace(tools.folder / program)
    output.rmdir()
    assets.extract(tools, name)
    (tools.cache / f"{name}.built").touch()
    _logger.info("built %s in %.0f s", name, time.monotonic() - began)


def _compile(tools: Tools, name: str, output: Path) -> None:
    """Run `go build`; below other work, since it takes minutes of every core."""
    packages = list(SETS[name].values())
    environment = {**os.environ, **_SETTINGS}
    _logger.info("  finding its packages; the first time that downloads about 2 GB of modules")
    total = len(run(["go", "list", "-deps", *packages], env=environment, cwd=tools.module,
                    timeout_seconds=TIMEOUT_SECONDS).splitlines())  # fmt: skip
    argv = ["nice", "-n", "19", "go", "build", "-v", *tools.flags, "-ldflags", tools.linker_flags]
    log = tools.cache / f"{name}.log"
    with log.open("w", encoding="utf-8") as lines:
        build = subprocess.Popen(
            [*argv, "-o", f"{output}/", *packages],
            cwd=tools.module, env=environment, stdout=lines, stderr=lines,
        )  # fmt: skip
    try:
        _follow(build, log, total)
    finally:
        build.kill()
        build.wait()
    if build.returncode != 0:
        raise HarnessError(f"go build failed: {log.read_text(encoding='utf-8')[-2000:].strip()}")


def _follow(build: subprocess.Popen[bytes], log: Path, total: int) -> None:
    began = told = time.monotonic()

    def ended() -> bool:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            with log.open(encoding="utf-8") as lines:
                done = sum(1 for _ in lines)
            _logger.info("  %d of at most %d packages, %.0f s", done, total, told - began)
        return build.poll() is not None

    until(ended, "go build", timeout_seconds=TIMEOUT_SECONDS, every_seconds=0.5)


def _built_name(package: str) -> str:
    """What `go build -o folder/` calls a program: its path's last element, versions aside."""
    *_, parent, last = f"./{package}".split("/")
    return parent if last in {"v2", "v3"} else last
