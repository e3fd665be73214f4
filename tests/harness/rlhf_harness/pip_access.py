"""How this machine's pip reaches packages, handed into a build and left out of the image.

Which index, proxy and certificates there are is the machine's affair: no file of the project names
one. Files are mounted for the time of a build, so no layer holds them.
"""

import ast
import os
import sys
from pathlib import Path

from rlhf_harness.commands import run

_HANDED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def mounts(folder: Path) -> list[str]:
    """Arguments of a build that give it this machine's access."""
    settings = _settings()
    bundle = settings.get("cert") or os.environ.get("SSL_CERT_FILE", "")
    lines = [f"{name} = {settings[name]}" for name in _HANDED_ON if name in settings]
    volumes = []
    if bundle:
        lines.append(f"cert = {_BUNDLE}")
        volumes.append(f"{Path(bundle).resolve()}:{_BUNDLE}:ro")
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "pip.conf"
    configuration.touch(mode=0o600)  # an address may carry a password
    configuration.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    volumes.append(f"{configuration}:/etc/pip.conf:ro")
    return [word for volume in volumes for word in ("--volume", volume)]


def _settings() -> dict[str, str]:
    """What pip is told by its files and, above them, by the environment."""
    listed = run([sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"])
    pairs = [line.partition("=")[::2] for line in listed.splitlines()]
    in_order = sorted(pairs, key=lambda pair: pair[0].startswith(":env:"))
    return {
        # A list is one value with several lines; below [global] they are indented.
        key.rpartition(".")[2]: str(ast.literal_eval(value)).replace("\n", "\n    ")
        for key, value in in_order
        if value
    }
