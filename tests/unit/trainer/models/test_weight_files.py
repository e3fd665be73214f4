"""What is said of folders without usable weights; only headers of their files are read."""

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.weight_files import SAVED, require_weights

CONFIG = LlamaConfig(
    vocab_size=16,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
)
INDEX = "model.safetensors.index.json"


def check(folder: Path, config: LlamaConfig = CONFIG) -> None:
    require_weights(folder, config, "spec.model.source", "'base'")


def refused(folder: Path) -> str:
    with pytest.raises(InvalidError) as caught:
        check(folder)
    message = caught.value.message
    assert message.startswith("spec.model.source='base': ")
    return message.removeprefix("spec.model.source='base': ")


@pytest.mark.parametrize("largest_file", ["1GB", "1KB"], ids=["whole", "in-parts"])
def test_saved_model_is_accepted(tmp_path: Path, largest_file: str) -> None:
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path, max_shard_size=largest_file)
    assert (tmp_path / INDEX).exists() == (largest_file == "1KB")
    check(tmp_path)


def test_file_that_the_configuration_names_is_accepted(tmp_path: Path) -> None:
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert refused(tmp_path) == f"has no weights (model.safetensors); {SAVED}"
    check(tmp_path, LlamaConfig(transformers_weights="other.safetensors"))


def test_configuration_alone_is_refused(tmp_path: Path) -> None:
    CONFIG.save_pretrained(tmp_path)
    assert refused(tmp_path) == f"has no weights (model.safetensors); {SAVED}"


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert refused(tmp_path) == (
        "has pickled weights only, which can run code when loaded; convert them to safetensors"
    )


def test_missing_part_is_named(tmp_path: Path) -> None:
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path, max_shard_size="1KB")
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    lost.unlink()
    assert refused(tmp_path) == (
        f"its {INDEX} names {lost.name}, which is not there; copy the model again"
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"weight_map": {"a": 1}})])
def test_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text, "utf-8")
    message = refused(tmp_path)
    assert message.startswith(f"{INDEX} cannot be read: ")
    assert message.endswith("; copy the model again")


def test_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert refused(tmp_path).startswith("model.safetensors cannot be read: ")
