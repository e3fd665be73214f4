"""Writing models and checkpoints so that a reader never sees half of one."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

MANIFEST = "manifest.json"


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder; add a manifest, sync, and rename it into place."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    manifest = {
        str(path.relative_to(partial)): {
            "sizeBytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in [*files, partial / MANIFEST, partial]:
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    _sync(folder.parent)


def save_model(model: PreTrainedModel, tokenizer: Path, folder: Path) -> None:
    """Write a model and its tokenizer as plain transformers reads them, safetensors only."""
    model.save_pretrained(folder)
    for path in tokenizer.iterdir():
        shutil.copy2(path, folder / path.name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
