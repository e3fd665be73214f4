import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Hub, serving
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.hub import HubModel, hub_model

FETCH = (
    "from rlhf_trainer.data.hub import HubModel, fetch_weights\n"
    "fetch_weights(HubModel('org/tiny', 'main'), 'spec.model.source', lambda: None)\n"
)

LOAD = (
    "import torch\n"
    "from rlhf_trainer.config.model import ModelConfig\n"
    "from rlhf_trainer.models.loading import load_causal_lm\n"
    "load_causal_lm('org/tiny', ModelConfig(source='org/tiny'), torch.device('cpu'))\n"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return how a program runs with a hub of its own: clients read their settings once."""

    def run(program: str, hub: Hub | None) -> subprocess.CompletedProcess[str]:
        where = {"HF_HUB_OFFLINE": "1"} if hub is None else {"HF_ENDPOINT": hub.url}
        return subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | where | {"HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def write_model(folder: Path, largest_file: str) -> None:
    """Write a small model, and beside its weights what nobody here loads."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=largest_file)
    (folder / "consolidated.safetensors").write_bytes(b"the same in another format")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")


@pytest.mark.parametrize("largest_file", ["1GB", "8KB"], ids=["one file", "several files"])
def test_weights_are_fetched_and_nothing_else(tmp_path: Path, run: Run, largest_file: str) -> None:
    write_model(tmp_path / "org" / "tiny", largest_file)
    with serving(tmp_path) as hub:
        done = run(FETCH, hub)
    assert done.returncode == 0, done.stderr
    weights = (tmp_path / "org" / "tiny").glob("model*.safetensors*")
    assert sorted(hub.fetched) == sorted(path.name for path in weights)


def test_what_was_fetched_is_loaded_without_the_hub(tmp_path: Path, run: Run) -> None:
    write_model(tmp_path / "org" / "tiny", "8KB")
    with serving(tmp_path) as hub:
        assert run(FETCH, hub).returncode == 0
        # Preparation has read the configuration before.
        program = (
            "from huggingface_hub import hf_hub_download\n"
            "for name in ('config.json', 'generation_config.json'):\n"
            "    hf_hub_download('org/tiny', name)\n"
        )
        assert run(program, hub).returncode == 0
    loaded = run(LOAD, None)
    assert loaded.returncode == 0, loaded.stderr


def test_models_of_a_hub_are_told_from_folders(tmp_path: Path) -> None:
    held = ModelConfig(source="base", revision="v2")
    assert hub_model("org/tiny", held) == HubModel("org/tiny", "v2")
    assert hub_model("org/tiny", ModelConfig(source="base")) == HubModel("org/tiny", "main")
    assert hub_model(str(tmp_path), held) is None
    adapter = tmp_path / "adapter"
    LoraConfig(base_model_name_or_path="org/tiny").save_pretrained(str(adapter))
    assert hub_model(str(adapter), held) == HubModel("org/tiny", "main")


def test_model_without_safetensors_is_left_to_whoever_loads_it(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "org" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with serving(tmp_path) as hub:
        assert run(FETCH, hub).returncode == 0


def test_connection_that_breaks_off_may_hold_in_the_next_attempt(tmp_path: Path, run: Run) -> None:
    write_model(tmp_path / "org" / "tiny", "1GB")
    with serving(tmp_path) as hub:
        hub.breaks_off = True
        done = run(FETCH, hub)
    assert done.returncode != 0
    assert "PhaseError: spec.model.source='org/tiny': no such folder" in done.stderr, done.stderr


def test_hub_that_is_silent_may_answer_the_next_attempt(run: Run) -> None:
    done = run(FETCH, None)
    assert done.returncode != 0
    assert "PhaseError: spec.model.source='org/tiny': no such folder" in done.stderr


def test_what_is_there_is_not_fetched_again_and_does_without_a_hub(
    tmp_path: Path, run: Run
) -> None:
    write_model(tmp_path / "org" / "tiny", "8KB")
    with serving(tmp_path) as hub:
        for _ in range(2):
            assert run(FETCH, hub).returncode == 0
        assert len(hub.fetched) == len(set(hub.fetched)) > 2
    done = run(FETCH, None)
    assert done.returncode == 0, done.stderr
