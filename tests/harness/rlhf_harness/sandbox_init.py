"""The first process inside a cluster's sandbox: hides what must stay untouched, then reaps.

Runs as a script, alone: it must not need the package. When it ends, the kernel ends every process
of the sandbox with it, and with the last of them go its mounts and its network.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

COVERED = ("/var/lib", "/var/log")
"""Where node components write at fixed places: changes go to memory and vanish."""

SHOWN_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet insists on. It reads these here and leaves the machine's alone."""


def mount(*arguments: str) -> None:
    """Mount something inside the sandbox."""
    subprocess.run(["mount", *arguments], check=True)


def cover() -> None:
    """Lay fresh or writable layers over what components would change."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for place in COVERED:
        layers = Path("/run/covered") / place.strip("/").replace("/", "-")
        for layer in ("upper", "work"):
            (layers / layer).mkdir(parents=True)
        options = f"lowerdir={place},upperdir={layers}/upper,workdir={layers}/work"
        mount("-t", "overlay", "-o", options, "overlay", place)
    for name, value in SHOWN_SYSCTLS.items():
        shown = Path("/run/sysctl") / name
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n", encoding="utf-8")
        mount("--bind", str(shown), f"/proc/sys/{name}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n", encoding="utf-8")


def reap() -> None:
    """Wait for ever; collect the exit status of whatever was left to this process."""
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


def main() -> None:
    """Prepare, say so by a file, then stay."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    cover()
    Path(sys.argv[1]).touch()
    reap()


if __name__ == "__main__":
    main()
