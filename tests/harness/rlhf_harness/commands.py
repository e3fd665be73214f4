"""Running a command to its end: the one place where the harness calls other programs and waits."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from rlhf_harness.errors import CommandError


def run(
    argv: list[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_seconds: float = 120,
) -> str:
    """Run `argv` and return what it wrote to standard output; CommandError if it fails."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            env=env,
            cwd=cwd,
            timeout=timeout_seconds,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as missing:
        raise CommandError(argv, 127, f"{argv[0]}: not found") from missing
    except subprocess.TimeoutExpired as late:
        raise CommandError(argv, 124, f"no end after {timeout_seconds:g} s") from late
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout


def succeeds(argv: list[str], *, timeout_seconds: float = 30) -> bool:
    """Whether the command can be run and exits 0."""
    try:
        run(argv, timeout_seconds=timeout_seconds)
    except CommandError:
        return False
    return True
