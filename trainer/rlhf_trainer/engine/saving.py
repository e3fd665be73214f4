"""Models and checkpoints on disk, each with a manifest that tells whole from torn."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from rlhf_trainer.engine.growing import beating_while_growing
from rlhf_trainer.engine.manifest import (
    MANIFEST,
    Beat,
    entries,
    files_of,
    flaw,
    write_manifest,
)
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.files import put_in_place, sync, write_folder
from rlhf_trainer.models.adapters import Role, save_adapter


def save_folder(folder: Path, add: Callable[[Path], object], beat: Beat) -> None:
    """Let `add` fill a folder and list what is in it; a reader never sees half of it.

    `beat` is called as it gets on: a large model takes longer than a hang.
    """

    def write(target: Path) -> None:
        with beating_while_growing(target, beat):
            add(target)
        files = _on_disk(target, beat)
        write_manifest(target, entries(target, files, beat))

    write_folder(folder, write)


def save_model(model: PreTrainedModel, tokenizer: Path, folder: Path, beat: Beat) -> None:
    """Write a model and its tokenizer, safetensors only."""
    save_folder(folder, lambda target: add_model(model, tokenizer, target), beat)


def add_model(model: PreTrainedModel, tokenizer: Path, folder: Path) -> None:
    """Write a model and its tokenizer into a folder that others make whole."""
    model.save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)


def add_adapter_model(
    model: PreTrainedModel,
    role: Role,
    tokenizer: Path,
    folder: Path,
    *,
    head: nn.Linear | None = None,
) -> None:
    """Write an adapter, its head and a tokenizer into a folder that others make whole."""
    save_adapter(model, role, folder, head=head)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)


def copy_model(source: Path, folder: Path, beat: Beat, *, ignore: Sequence[str] = ()) -> None:
    """Copy a saved model, without what a checkpoint has besides; a reader never sees half of it."""

    def add(target: Path) -> None:
        left_out = shutil.ignore_patterns(MANIFEST, *ignore)
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=left_out)

    save_folder(folder, add, beat)


def write_together(
    folder: Path, ranks: Ranks, write: Callable[[Path], object], beat: Beat = lambda: None
) -> None:
    """Let every rank write its part of `folder`, which is there whole or not at all.

    `write` gets a folder that all ranks share. Each waits for the disk to have all files, since
    only the node that wrote one can; checksums are shared out. `beat` is called as it gets on: a
    large model takes longer than a hang.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    if ranks.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    ranks.barrier()
    with beating_while_growing(temporary, beat):
        write(temporary)
        ranks.barrier()
    files = _on_disk(temporary, beat)
    # A node may not see yet what another one has just written, so the lists are put together.
    seen = ranks.gather([path.relative_to(temporary) for path in files])
    names = sorted({name for part in seen for name in part})
    mine = names[ranks.rank :: ranks.world_size]
    share = entries(temporary, [temporary / name for name in mine], beat)
    listed = {name: entry for part in ranks.gather(share) for name, entry in part.items()}
    if ranks.is_main:
        write_manifest(temporary, listed)
        put_in_place(temporary, folder)
    ranks.barrier()


def _on_disk(folder: Path, beat: Beat) -> list[Path]:
    """Return the files of a folder once the disk has them."""
    files = files_of(folder)
    for path in files:
        sync(path)
        beat()
    return files


def flaw_seen_together(
    folder: Path, ranks: Ranks, beat: Beat, *, ignore: Sequence[str] = ()
) -> str | None:
    """Say what is wrong with a folder, the same on all ranks, of which each reads a share."""
    share = slice(ranks.rank, None, ranks.world_size)
    found = ranks.gather(flaw(folder, share, beat, ignore=ignore))
    return next((problem for problem in found if problem is not None), None)
