"""FlashAttention 2 is chosen where it can run, and nowhere else."""

from pathlib import Path

import pytest
import torch

from rlhf_trainer.config.model import Attention
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.loading import attention_implementation

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name that can be imported: whether it works, only a GPU tells."""
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_architecture_chooses_without_the_package(device: torch.device) -> None:
    """Transformers then takes SDPA where the architecture has it."""
    assert attention_implementation(Attention.AUTO, device) is None
    assert attention_implementation(Attention.SDPA, device) == "sdpa"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("attention", [Attention.AUTO, Attention.FLASH_ATTENTION_2])
def test_flash_attention_on_a_gpu_with_the_package(attention: Attention) -> None:
    assert attention_implementation(attention, GPU) == "flash_attention_2"


@pytest.mark.usefixtures("installed")
def test_no_flash_attention_on_a_cpu_or_if_sdpa_is_asked_for() -> None:
    assert attention_implementation(Attention.AUTO, CPU) is None
    assert attention_implementation(Attention.SDPA, GPU) == "sdpa"


@pytest.mark.parametrize("device", [CPU, GPU])
def test_flash_attention_that_cannot_run_is_refused(device: torch.device) -> None:
    with pytest.raises(InvalidError, match="needs a GPU and the flash-attn package"):
        attention_implementation(Attention.FLASH_ATTENTION_2, device)
