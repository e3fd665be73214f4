"""What is said of folders that hold no reward model; only headers of their files are read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.loading import load_classifier
from rlhf_trainer.models.reward_files import ONE_LABEL, require_reward_model
from rlhf_trainer.models.weight_files import SAVED

SMALL = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
}
PLACE = "spec.rewardModel.from.path"


def classifier(config: PreTrainedConfig) -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_config(config)


def check(folder: Path, config: PreTrainedConfig) -> None:
    require_reward_model(folder, config, PLACE, "'rm'")


def refused(folder: Path, config: PreTrainedConfig) -> str:
    with pytest.raises(InvalidError) as caught:
        check(folder, config)
    return caught.value.message


@pytest.mark.parametrize("kind", [LlamaConfig, BertConfig])
def test_sequence_classifier_with_one_label_is_accepted(
    kind: type[PreTrainedConfig], tmp_path: Path
) -> None:
    config = kind(**SMALL, num_labels=1)
    classifier(config).save_pretrained(tmp_path, max_shard_size="1KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check(tmp_path, config)


def test_head_with_one_row_is_accepted_whatever_the_configuration_counts(tmp_path: Path) -> None:
    """Without a list of labels, transformers takes a configuration to mean two."""
    classifier(LlamaConfig(**SMALL, num_labels=1)).save_pretrained(tmp_path)
    check(tmp_path, LlamaConfig(**SMALL))


def test_more_labels_are_refused_with_their_number(tmp_path: Path) -> None:
    config = BertConfig(**SMALL, num_labels=3)
    classifier(config).save_pretrained(tmp_path)
    assert refused(tmp_path, config) == (
        f"{PLACE}='rm': its classifier.weight has the shape [3, 8], and that of one label is "
        f"[1, 8]: it tells 3 labels apart; {ONE_LABEL}"
    )


def test_language_model_has_no_head(tmp_path: Path) -> None:
    config = LlamaConfig(**SMALL)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert refused(tmp_path, config) == (
        f"{PLACE}='rm': is no reward model: it has no score.weight; beside its trunk it holds "
        f"lm_head.weight; {ONE_LABEL}"
    )


def test_bias_that_transformers_would_drop_is_refused(tmp_path: Path) -> None:
    config = LlamaConfig(**SMALL, num_labels=1)
    classifier(config).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "score.bias": torch.ones(1)}, file, {"format": "pt"})
    assert refused(tmp_path, config) == (
        f"{PLACE}='rm': LlamaForSequenceClassification does not read its score.bias, on which "
        "its scores depend; remove what it does not read if that does no harm (a bias shifts all "
        "scores alike)"
    )


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    config = LlamaConfig(**SMALL, num_labels=1)
    config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert refused(tmp_path, config) == (
        f"{PLACE}='rm': has pickled weights only, which can run code when loaded; convert them to "
        "safetensors"
    )


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, LlamaConfig(**SMALL))
    assert message == f"{PLACE}='rm': has no weights (*.safetensors); {SAVED}"


def test_torn_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    message = refused(tmp_path, LlamaConfig(**SMALL))
    assert message.startswith(f"{PLACE}='rm': model.safetensors cannot be read: ")
    assert message.endswith("; copy the model again")


def test_architecture_without_a_classifier_is_refused(tmp_path: Path) -> None:
    config = GraniteConfig(**SMALL)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert refused(tmp_path, config) == (
        f"{PLACE}='rm': transformers has no sequence classifier of type 'granite'; {ONE_LABEL}"
    )


def test_head_that_would_be_drawn_at_random_is_refused_when_loaded_too(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    model, device = ModelConfig(source="x"), torch.device("cpu")
    with pytest.raises(InvalidError) as caught:
        load_classifier(tmp_path, model, device)
    assert "is no reward model: it has no score.weight" in caught.value.message
    load_classifier(tmp_path, model, device, new_head=True)
