"""The two images of a node, made from nothing: no registry, no image builder.

`pause` holds a pod's namespaces. `host` is an empty root of a few kilobytes: the runtime of the
same name mounts this machine's programs into it.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAUSE = "localhost/pause:1"

_FOLDERS = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var", "var/tmp")
_LINKS = ("bin", "sbin", "lib", "lib64")
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\ntrainer:x:65532:65532::/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\ntrainer:x:65532:\n",
}


def pause(program: Path, target: Path) -> None:
    """Write the image of the pause container."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar, program.open("rb") as content:
        tar.addfile(_entry("pause", 0o755, size=program.stat().st_size), content)
    _write(target, PAUSE, layer.getvalue(), {"Entrypoint": ["/pause"]})


def host(name: str, variables: Mapping[str, str], target: Path) -> None:
    """Write the image of pods that run what this machine has.

    Args:
        name: the image's name, with its tag.
        variables: the environment inside, by which `python` is the project's.
        target: the archive to write.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in _FOLDERS:
            mode = 0o1777 if folder.endswith("tmp") else 0o755
            tar.addfile(_entry(folder, mode, kind=tarfile.DIRTYPE))
        for link in _LINKS:
            entry = _entry(link, 0o777, kind=tarfile.SYMTYPE)
            entry.linkname = f"usr/{link}"
            tar.addfile(entry)
        for file, text in _ACCOUNTS.items():
            tar.addfile(_entry(file, 0o644, size=len(text)), io.BytesIO(text.encode()))
    env = [f"{key}={value}" for key, value in variables.items()]
    config = {"Env": env, "User": "65532:65532", "WorkingDir": "/tmp"}  # noqa: S108 - the pod's
    _write(target, name, layer.getvalue(), config)


def _entry(
    name: str, mode: int, *, kind: bytes = tarfile.REGTYPE, size: int = 0
) -> tarfile.TarInfo:
    """An entry of root's, without a date: the same content has the same digest."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size = mode, kind, size
    return entry


def _write(target: Path, name: str, layer: bytes, config: Mapping[str, Any]) -> None:
    """Write an OCI image layout with one image as a tar archive."""
    blobs: list[bytes] = []

    def stored(content: bytes, media: str, **more: object) -> dict[str, Any]:
        blobs.append(content)
        return {"mediaType": media, "digest": _digest(content), "size": len(content), **more}

    image = "application/vnd.oci.image"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    described = {
        "os": "linux",
        "architecture": machine,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{image}.manifest.v1+json",
        "config": stored(_json(described), f"{image}.config.v1+json"),
        "layers": [stored(layer, f"{image}.layer.v1.tar")],
    }
    named = {"io.containerd.image.name": name}
    entry = stored(_json(manifest), f"{image}.manifest.v1+json", annotations=named)
    index = {"schemaVersion": 2, "manifests": [entry]}
    contents = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        **{f"blobs/sha256/{_digest(blob).partition(':')[2]}": blob for blob in blobs},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as archive:
        for path, content in contents.items():
            archive.addfile(_entry(path, 0o644, size=len(content)), io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
