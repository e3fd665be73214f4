import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import httpx
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.special_tokens import NEW_PAD_TOKEN
from rlhf_trainer.data.tokenizer import (
    ModelLimits,
    load_limits,
    load_tokenizer,
    require_same_tokenizer,
)
from rlhf_trainer.errors import InvalidError, PhaseError

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]
MODEL = ModelConfig(source="tiny")


@pytest.fixture
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    """Return a model's folder without weights."""
    LlamaConfig(vocab_size=300, max_position_embeddings=64).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def test_tokenizer_and_limits_are_those_of_the_folder(
    folder: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded = load_tokenizer(folder, MODEL, "spec.model.source")
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.chat_template == tokenizer.chat_template
    assert load_limits(folder, MODEL, "spec.model.source") == ModelLimits(300, 64)


def test_limits_without_positions_are_open(folder: str) -> None:
    (Path(folder) / "config.json").write_text(json.dumps({"model_type": "bloom", "vocab_size": 9}))
    assert load_limits(folder, MODEL, "spec.model.source") == ModelLimits(9, None)


@pytest.mark.parametrize("content", ["{}", "not JSON"], ids=["no model", "not JSON"])
def test_broken_folder_is_the_users(folder: str, content: str) -> None:
    for path in Path(folder).iterdir():
        path.write_text(content)
    for load in (load_limits, load_tokenizer):
        with pytest.raises(InvalidError, match=r"spec\.model\.source=.*cannot be loaded: .+; name"):
            load(folder, MODEL, "spec.model.source")


def failing(monkeypatch: pytest.MonkeyPatch, cause: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub\nsecond line") from cause

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)


def test_hub_that_does_not_answer_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, LocalEntryNotFoundError("offline"))
    with pytest.raises(PhaseError) as caught:
        load_tokenizer("org/tiny", MODEL, "spec.model.source")
    assert not isinstance(caught.value, InvalidError)
    assert caught.value.message == (
        "spec.model.source='org/tiny': no such folder below the data root, and the hub cannot be "
        "reached; correct the path, or check the network"
    )


def test_hub_that_knows_no_such_model_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
    failing(monkeypatch, RepositoryNotFoundError("404", response=response))
    with pytest.raises(InvalidError) as caught:
        load_tokenizer("org/tiny", MODEL, "spec.model.source")
    assert caught.value.message == (
        "spec.model.source='org/tiny': its tokenizer or configuration cannot be loaded: "
        "We couldn't connect to the hub; name a folder below the data root, or a hub id"
    )


def test_model_of_the_same_tokenizer_is_accepted(
    folder: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    require_same_tokenizer(tokenizer, folder, MODEL, "spec.rewardModel.model.source")


def test_model_with_a_token_to_pad_with_is_accepted(
    folder: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    exported = load_tokenizer(folder, MODEL, "spec.model.source")
    exported.add_special_tokens({"pad_token": NEW_PAD_TOKEN})
    exported.save_pretrained(folder)
    require_same_tokenizer(tokenizer, folder, MODEL, "spec.sft.from.path")


def test_model_of_another_tokenizer_is_refused(
    folder: str, make_tokenizer: TokenizerFactory
) -> None:
    other = make_tokenizer("<eos>", eos="<eos>")
    with pytest.raises(InvalidError) as caught:
        require_same_tokenizer(other, folder, MODEL, "spec.rewardModel.model.source")
    assert caught.value.message == (
        "spec.rewardModel.model.source='tiny': its tokenizer is not that of the policy, whose "
        "tokens "
        "it is to read; choose a model of the same family"
    )
