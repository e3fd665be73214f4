"""An existing reward model's files, looked at before any weight is loaded.

Decided here: what is refused in minutes on a CPU that would fail hours later on a GPU, or would be
read with a head that nobody trained.
"""

from pathlib import Path

from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig

from rlhf_trainer.data.adapter_folders import PREFIX, is_adapter
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.architecture import HEAD, hollow_classifier
from rlhf_trainer.models.weight_files import tensor_shapes

NUM_NAMES = 3
"""Tensors that an error names."""

ONE_LABEL = "name a sequence classifier with one label, saved by transformers as safetensors"


def require_reward_model(folder: Path, config: PreTrainedConfig, place: str, value: str) -> None:
    """Refuse a folder that holds no reward model: a sequence classifier with one label.

    Only the headers of its files are read. `place` is the field of the manifest that names it, and
    `value` what stands there.

    Raises:
        InvalidError: weights, the class, or a trained head with one label are missing.
    """

    def refuse(problem: str, fix: str = ONE_LABEL) -> InvalidError:
        return InvalidError(place, value, problem, fix)

    shapes = tensor_shapes(folder, place, value)
    if is_adapter(folder):
        if f"{PREFIX}{HEAD}.weight" not in shapes:
            raise refuse(f"is no reward model: the adapter comes without a {HEAD}.weight")
        return
    if getattr(config, "auto_map", None):
        return  # its classes come with it, and are tried when it is loaded
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise refuse(f"transformers has no sequence classifier of type {config.model_type!r}")
    hollow = hollow_classifier(config)
    prefix = f"{hollow.base_model_prefix}."
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in hollow.state_dict().items()
        if not name.startswith(prefix)
    }
    for name, shape in expected.items():
        if name not in shapes:
            others = [other for other in shapes if not other.startswith(prefix)]
            held = f"; beside its trunk it holds {_listed(others)}" if others else ""
            raise refuse(f"is no reward model: it has no {name}{held}")
        if shapes[name] != shape:
            raise refuse(
                f"its {name} has the shape {list(shapes[name])}, and that of one label is "
                f"{list(shape)}: it tells {config.num_labels} labels apart"
            )
    heads = {name.partition(".")[0] for name in expected}
    unread = [name for name in shapes if name.partition(".")[0] in heads and name not in expected]
    if unread:
        raise refuse(
            f"{type(hollow).__name__} does not read its {_listed(unread)}, on which its scores "
            "depend",
            "remove what it does not read if that does no harm (a bias shifts all scores alike)",
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:NUM_NAMES])
    return shown if len(names) <= NUM_NAMES else f"{shown} and {len(names) - NUM_NAMES} more"
