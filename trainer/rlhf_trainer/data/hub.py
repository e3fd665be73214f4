"""Models of a hub: weights are fetched before GPUs wait for them; whose fault a failure is."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter, revision_of
from rlhf_trainer.errors import PhaseError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
"""What transformers loads, in this order: one file, or those that an index names."""


class HubModel(NamedTuple):
    """A model of a hub."""

    repository: str
    """Its id."""
    revision: str
    """Branch, tag or commit."""


def hub_model(source: str, model: ModelConfig) -> HubModel | None:
    """Return the model of a hub that is read for `source`; None if a folder has all of it.

    A folder with an adapter may name a model of the hub, at a revision of its own.
    """
    if is_adapter(source):
        held = model.model_copy(update={"revision": revision_of(source)})
        return hub_model(base_of(source), held)
    return None if Path(source).is_dir() else HubModel(source, model.revision or "main")


def fetch_weights(model: HubModel, place: str, between: Callable[[], object]) -> None:
    """Fetch a model's weights into the hub's cache, unless they are there; call between files.

    What has no weights in safetensors is left for whoever loads it to refuse, or to convert.

    Raises:
        PhaseError: the hub does not answer, or breaks off.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with transformers

    try:
        file = _first(model)
        if file is not None and file.name == INDEX:
            index = json.loads(file.read_text(encoding="utf-8"))
            for part in sorted(set(index["weight_map"].values())):
                between()
                hf_hub_download(model.repository, part, revision=model.revision)
    except Exception as error:
        # What breaks off a download is an error of httpx, of hf_xet, or of Python's own.
        if not hub_is_silent(error):
            raise
        raise unreachable(model.repository, place) from error


def _first(model: HubModel) -> Path | None:
    """Return the weights, or else their index, fetched; None if the hub has neither."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with transformers
    from huggingface_hub.errors import (  # noqa: PLC0415 - comes with transformers
        EntryNotFoundError,
        LocalEntryNotFoundError,
    )

    silent: LocalEntryNotFoundError | None = None
    for name in (WEIGHTS, INDEX):
        try:
            return Path(hf_hub_download(model.repository, name, revision=model.revision))
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
    """Return whether a request to the hub failed without an answer about what was asked for.

    A connection that breaks off is one that may hold the next time.
    """
    from huggingface_hub.errors import (  # noqa: PLC0415 - comes with transformers
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The very client that it uses, which it re-exports without saying so.
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # noqa: PLC0415 - as above

    answers = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
    broken = (LocalEntryNotFoundError, httpx.TransportError, ConnectionError, TimeoutError)
    return any(
        isinstance(cause, broken)
        or (isinstance(cause, HfHubHTTPError) and not isinstance(cause, answers))
        for cause in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
