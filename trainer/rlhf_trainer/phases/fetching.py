"""The models whose weights phases load: there, or fetched, before a GPU is held."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.file_download import repo_folder_name

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter
from rlhf_trainer.data.hub import HubModel, fetch_weights, hub_model
from rlhf_trainer.data.tokenizer import load_config
from rlhf_trainer.engine.growing import beating_while_growing
from rlhf_trainer.models.weight_files import require_weights
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.model_checks import Model
from rlhf_trainer.phases.named_models import NamedModels


def fetch_models(context: PhaseContext, named: NamedModels) -> None:
    """Have the weights of a hub's models at hand.

    Raises:
        PhaseError: the hub does not answer.
        PreemptedError: SIGTERM has arrived; what is complete stays.
    """
    cache = Path(HF_HUB_CACHE)
    if cache.is_relative_to(context.workspace.root):
        # Whoever was killed in the midst of a file has left its beginning, which nobody takes up.
        for unfinished in cache.glob("models--*/blobs/*.incomplete"):
            unfinished.unlink()
    for model, place in loaded(context.config, named).items():
        folder = cache / repo_folder_name(repo_id=model.repository, repo_type="model")
        with beating_while_growing(folder, context.telemetry.heartbeat):
            fetch_weights(model, place, context.stop_if_preempted)
        context.stop_if_preempted()


def loaded(config: TrainingConfig, named: NamedModels) -> dict[HubModel, str]:
    """Return the models of a hub whose weights phases load, with the fields that name them.

    An SFT model that is whole is itself the base, and so the base that is named is not loaded.
    """
    return dict(_loaded(config, named))


def _loaded(config: TrainingConfig, named: NamedModels) -> Iterator[tuple[HubModel, str]]:
    for source, held, place in _models(config, named):
        if (model := hub_model(source, held)) is not None:
            yield model, place


def _models(config: TrainingConfig, named: NamedModels) -> list[Model]:
    base, policy, reward = named
    models = []
    if policy == base or is_adapter(policy.source):
        models.append(base)
    if config.model.lora is None or not is_adapter(policy.source):
        # What adapts a base that nobody shares is merged into it, at its own revision.
        models.append(policy)
    if reward != policy:
        models.append(reward)
    return models


def require_weight_files(config: TrainingConfig, named: NamedModels) -> None:
    """Check the folders of whole models that phases load; adapters' own are `adapter_checks`'.

    Raises:
        InvalidError: one holds no weights that can be loaded.
    """
    for model in _models(config, named):
        folder = Path(base_of(model.source) if is_adapter(model.source) else model.source)
        if folder.is_dir():
            require_weights(folder, load_config(*model), model.place, model.named)
