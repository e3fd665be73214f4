"""Loading a pretrained model's tokenizer and the limits in its configuration; never its weights.

What does not exist, or cannot be read, the user must change; a hub that does not answer may answer
the next attempt.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter
from rlhf_trainer.data.hub import hub_is_silent, unreachable
from rlhf_trainer.data.problems import shortened
from rlhf_trainer.data.special_tokens import NEW_PAD_TOKEN
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.files import require_readable

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelLimits:
    """What a model can take in."""

    vocabulary_size: int
    """Rows of its embedding."""
    maximum_positions: int | None
    """Longest sequence, in tokens; None if its configuration names none."""


def load_tokenizer(source: str, model: ModelConfig, place: str) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of the model at `source`, a folder or hub id.

    `place` is the field of the manifest that names it.

    Raises:
        InvalidError: there is none, or it cannot be read.
        PhaseError: the hub does not answer.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and torch with it

    tokenizer: PreTrainedTokenizerBase = _load(AutoTokenizer, source, model, place)
    return tokenizer


def load_limits(source: str, model: ModelConfig, place: str) -> ModelLimits:
    """Return the limits of the model at `source`, a folder or hub id.

    Raises:
        InvalidError: there is no such model, or its configuration cannot be read.
        PhaseError: the hub does not answer.
    """
    config = load_config(source, model, place).get_text_config()
    return ModelLimits(config.vocab_size, getattr(config, "max_position_embeddings", None))


def load_config(source: str, model: ModelConfig, place: str) -> "PreTrainedConfig":
    """Return the configuration of the model at `source`, a folder or hub id.

    Raises:
        InvalidError: there is no such model, or its configuration cannot be read.
        PhaseError: the hub does not answer.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - seconds, and torch with it

    if is_adapter(source):
        require_readable(Path(source), place)
        return load_config(base_of(source), model, place)
    config: PreTrainedConfig = _load(AutoConfig, source, model, place)
    return config


def _load(auto: Any, source: str, model: ModelConfig, place: str) -> Any:  # noqa: ANN401 - transformers' auto classes share no type
    if Path(source).is_dir():
        require_readable(Path(source), place)
    try:
        return auto.from_pretrained(
            source,
            revision=model.revision or "main",
            trust_remote_code=model.trust_remote_code,
        )
    except Exception as error:  # tokenizers raises the bare class for a broken file
        problem = next(iter(str(error).splitlines()), type(error).__name__)
        is_folder = Path(source).is_dir()
        if not is_folder and hub_is_silent(error):
            raise unreachable(source, place) from error
        raise InvalidError(
            place,
            shortened(source),
            f"its tokenizer or configuration cannot be loaded: {problem}",
            "name a folder that holds a model with its tokenizer"
            if is_folder
            else "name a folder below the data root, or a hub id",
        ) from error


def require_same_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", source: str, model: ModelConfig, place: str
) -> None:
    """Refuse a model whose tokenizer is another than `tokenizer`: it could not read its tokens.

    What an earlier run exported may have a token to pad with that its base model lacks: no
    sequence holds it.

    Raises:
        InvalidError: the vocabularies differ, or there is no tokenizer at `source`.
        PhaseError: the hub does not answer.
    """
    if _vocabulary(load_tokenizer(source, model, place)) != _vocabulary(tokenizer):
        raise InvalidError(
            place,
            shortened(model.source),
            "its tokenizer is not that of the policy, whose tokens it is to read",
            "choose a model of the same family",
        )


def has_same_tokens(tokenizer: "PreTrainedTokenizerBase", other: "PreTrainedTokenizerBase") -> bool:
    """Return whether a token means the same to both, and both begin and end alike.

    A token to pad with does not count, as no sequence holds it; nor do normalisation and merges,
    which only say how text becomes tokens.
    """
    return _vocabulary(tokenizer) == _vocabulary(other) and (
        (tokenizer.bos_token_id, tokenizer.eos_token_id) == (other.bos_token_id, other.eos_token_id)
    )


def _vocabulary(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    return {token: n for token, n in tokenizer.get_vocab().items() if token != NEW_PAD_TOKEN}
