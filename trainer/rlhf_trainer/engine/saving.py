"""Models on disk, as plain transformers reads them, with a manifest that tells whole from torn."""

import hashlib
import json
import shutil
from pathlib import Path

from transformers import PreTrainedModel

from rlhf_trainer.files import write_folder

MANIFEST = "manifest.json"


def save_model(model: PreTrainedModel, tokenizer: Path, folder: Path) -> None:
    """Write a model and its tokenizer, safetensors only; a reader never sees half of it."""

    def write(target: Path) -> None:
        model.save_pretrained(target)
        shutil.copytree(tokenizer, target, dirs_exist_ok=True)
        _write_manifest(target)

    write_folder(folder, write)


def copy_model(source: Path, folder: Path) -> None:
    """Copy a saved model; a reader never sees half of it."""

    def write(target: Path) -> None:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=lambda *_: [MANIFEST])
        _write_manifest(target)

    write_folder(folder, write)


def _write_manifest(folder: Path) -> None:
    """List size and checksum of every file in `folder`."""
    manifest = {
        str(path.relative_to(folder)): {"sizeBytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
