"""What ranks are refused before they meet; CUDA is a stand-in."""

import os

import pytest
import torch

from rlhf_trainer.config.model import Device
from rlhf_trainer.engine.ranks import start
from rlhf_trainer.errors import InvalidError


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a driver answer that has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.parametrize("device", [Device.AUTO, Device.CUDA])
def test_more_ranks_than_gpus_are_refused_on_every_rank(
    monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "3")
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "0")
    with pytest.raises(InvalidError) as caught:
        start(device)
    assert caught.value.message == (
        "spec.placement.gpusPerNode=3: each process trains on a GPU of its own, of which this "
        "machine has 2; use at most 2, of processesPerNode too, or set spec.model.device=CPU"
    )


def test_cuda_without_a_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidError, match=r"spec\.model\.device=CUDA: no CUDA driver answers"):
        start(Device.CUDA)
