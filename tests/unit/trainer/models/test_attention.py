"""FlashAttention 2 is chosen where it can run, and nowhere else."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import BloomForCausalLM, LlamaForCausalLM

from rlhf_trainer.config.model import Attention
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.attention import attention_implementation

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BF16, LLAMA = torch.bfloat16, LlamaForCausalLM
AUTO, FLASH = Attention.AUTO, Attention.FLASH_ATTENTION_2


@pytest.fixture(autouse=True)
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say what a GPU would: whether it works, only one tells."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "flash_attn.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "def flash_attn_varlen_func(): ...\n")


@pytest.mark.parametrize("device", [CPU, GPU])
def test_architecture_chooses_without_the_package(device: torch.device) -> None:
    """Transformers then takes SDPA where the architecture has it."""
    assert attention_implementation(AUTO, BF16, device, LLAMA) is None
    assert attention_implementation(Attention.SDPA, BF16, device, LLAMA) == "sdpa"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("attention", [AUTO, FLASH])
def test_flash_attention_on_a_gpu_with_the_package(attention: Attention) -> None:
    assert attention_implementation(attention, BF16, GPU, LLAMA) == "flash_attention_2"


@pytest.mark.usefixtures("installed")
def test_no_flash_attention_if_sdpa_is_asked_for() -> None:
    assert attention_implementation(Attention.SDPA, BF16, GPU, LLAMA) == "sdpa"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("dtype", "device", "kind", "problem"),
    [
        (BF16, CPU, LLAMA, "needs a GPU"),
        (torch.float32, GPU, LLAMA, "computes in BFloat16"),
        (BF16, GPU, BloomForCausalLM, "BloomForCausalLM has no FlashAttention 2"),
    ],
    ids=["cpu", "float32", "architecture"],
)
def test_auto_does_without_flash_attention_where_it_cannot_run_and_asking_is_refused(
    dtype: torch.dtype, device: torch.device, kind: type, problem: str
) -> None:
    assert attention_implementation(AUTO, dtype, device, kind) is None
    with pytest.raises(InvalidError, match=problem):
        attention_implementation(FLASH, dtype, device, kind)


@pytest.mark.usefixtures("installed")
def test_an_older_gpu_has_no_flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert attention_implementation(AUTO, BF16, GPU, LLAMA) is None
    with pytest.raises(InvalidError, match=r"compute capability 8\.0"):
        attention_implementation(FLASH, BF16, GPU, LLAMA)


@pytest.mark.usefixtures("installed")
def test_a_class_that_comes_with_the_model_has_it_only_if_asked_for() -> None:
    assert attention_implementation(AUTO, BF16, GPU, None) is None
    assert attention_implementation(FLASH, BF16, GPU, None) == "flash_attention_2"


@pytest.mark.parametrize(
    "text",
    ["raise ImportError('undefined symbol')", "from pathlib import Path as cute"],
    ids=["built-for-another-torch", "flash-attention-4"],
)
def test_a_package_that_does_not_work_is_as_good_as_none(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, text + "\n")
    assert attention_implementation(AUTO, BF16, GPU, LLAMA) is None
    with pytest.raises(InvalidError, match="cannot be imported"):
        attention_implementation(FLASH, BF16, GPU, LLAMA)
