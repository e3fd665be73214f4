"""Models of a hub: weights are fetched before GPUs wait for them; whose fault a failure is."""

import json
from collections.abc import Iterator
from pathlib import Path

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter, revision_of
from rlhf_trainer.errors import PhaseError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
"""What transformers loads, in this order: one file, or those that an index names."""


def fetch_weights(source: str, model: ModelConfig, place: str) -> None:
    """Fetch the weights of the model at `source` into the hub's cache, unless it is a folder.

    A folder with an adapter may name a model of the hub, which is fetched. What has no weights in
    safetensors is left for whoever loads it to refuse, or to convert.

    Raises:
        PhaseError: the hub does not answer.
    """
    if is_adapter(source):
        held = model.model_copy(update={"revision": revision_of(source)})
        fetch_weights(base_of(source), held, place)
        return
    if Path(source).is_dir():
        return
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with transformers

    revision = model.revision or "main"
    try:
        file = _file(source, revision)
        if file is not None and file.name == INDEX:
            index = json.loads(file.read_text(encoding="utf-8"))
            parts = sorted(set(index["weight_map"].values()))
            snapshot_download(source, revision=revision, allow_patterns=parts)
    except OSError as error:
        if not hub_is_silent(error):
            raise
        raise unreachable(source, place) from error


def _file(source: str, revision: str) -> Path | None:
    """Return the weights, or else their index, fetched; None if the hub has neither."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with transformers
    from huggingface_hub.errors import (  # noqa: PLC0415 - the same
        EntryNotFoundError,
        LocalEntryNotFoundError,
    )

    silent: LocalEntryNotFoundError | None = None
    for name in (WEIGHTS, INDEX):
        try:
            return Path(hf_hub_download(source, name, revision=revision))
        except LocalEntryNotFoundError as error:
            silent = error
        except EntryNotFoundError:
            continue
    if silent is not None:
        raise silent
    return None


def unreachable(source: str, place: str) -> PhaseError:
    """Return the failure of a phase that needs the model `source` of a hub that is silent."""
    return PhaseError(
        f"{place}={source!r}: no such folder below the data root, and the hub "
        "cannot be reached; correct the path, or check the network",
        reason="HubUnreachable",
    )


def hub_is_silent(error: BaseException) -> bool:
    """Return whether a request to the hub failed without an answer about what was asked for."""
    from huggingface_hub.errors import (  # noqa: PLC0415 - comes with transformers
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    answers = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(
        isinstance(cause, LocalEntryNotFoundError)
        or (isinstance(cause, HfHubHTTPError) and not isinstance(cause, answers))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
