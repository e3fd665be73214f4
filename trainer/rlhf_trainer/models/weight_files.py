"""The safetensors files of a model's folder: only their headers are read.

Decided here: whether a folder holds what transformers, or PEFT, will load; no weight is loaded.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig

from rlhf_trainer.data.hub import INDEX, WEIGHTS
from rlhf_trainer.errors import InvalidError

SAVED = "name a folder with weights that transformers, or PEFT, has saved as safetensors"
COPY = "copy the model again"

Shapes = dict[str, tuple[int, ...]]


def require_weights(folder: Path, config: PreTrainedConfig, place: str, value: str) -> None:
    """Refuse a folder of a whole model that transformers could not load weights from.

    `place` is the field of the manifest that names it, and `value` what stands there.

    Raises:
        InvalidError: there are none, a part of them is missing, or a file is torn.
    """
    # A configuration may name another file than the two that transformers looks for.
    chosen = getattr(config, "transformers_weights", None)
    files = [folder / name for name in ((chosen,) if chosen else (WEIGHTS, INDEX))]
    first = next((file for file in files if file.is_file()), None)
    if first is None:
        raise _without_weights(folder, files[0].name, place, value)
    parts = _parts(first, place, value) if first.name.endswith(".index.json") else [first]
    if missing := [part.name for part in parts if not part.is_file()]:
        problem = f"its {first.name} names {missing[0]}, which is not there"
        raise InvalidError(place, value, problem, COPY)
    for part in parts:
        _shapes_in(part, place, value)


def tensor_shapes(folder: Path, place: str, value: str) -> Shapes:
    """Return the shape of every tensor in the folder's safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _without_weights(folder, "*.safetensors", place, value)
    shapes: Shapes = {}
    for file in files:
        shapes |= _shapes_in(file, place, value)
    return shapes


def _parts(index: Path, place: str, value: str) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [index.parent / name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{index.name} cannot be read: {error!r}"
        raise InvalidError(place, value, problem, COPY) from error


def _shapes_in(file: Path, place: str, value: str) -> Shapes:
    try:
        with safe_open(file, framework="numpy") as opened:
            return {
                name: tuple(opened.get_slice(name).get_shape())
                for name in opened.keys()  # noqa: SIM118 - no mapping
            }
    except (SafetensorError, OSError) as error:
        raise InvalidError(place, value, f"{file.name} cannot be read: {error}", COPY) from error


def _without_weights(folder: Path, wanted: str, place: str, value: str) -> InvalidError:
    if not list(folder.glob("*.safetensors")) and list(folder.glob("*.bin")):
        problem = "has pickled weights only, which can run code when loaded"
        return InvalidError(place, value, problem, "convert them to safetensors")
    return InvalidError(place, value, f"has no weights ({wanted})", SAVED)
