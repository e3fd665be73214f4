from pathlib import Path

import pytest

from rlhf_trainer.config.model import Device
from rlhf_trainer.launch.allocator import EXTENDING, KEEPING, allocator_variables


@pytest.mark.parametrize(
    ("device", "shown", "expected"),
    [
        pytest.param(Device.CPU, [], KEEPING, id="cpu"),
        pytest.param(Device.AUTO, ["null", "nvidiactl"], KEEPING, id="auto-without-gpu"),
        pytest.param(Device.CPU, ["nvidia0"], KEEPING, id="cpu-beside-a-gpu"),
        pytest.param(Device.AUTO, ["nvidia0"], EXTENDING, id="auto-with-gpu"),
        pytest.param(Device.CUDA, [], EXTENDING, id="cuda"),
    ],
)
def test_ranks_hold_memory_as_suits_their_device(
    device: Device, shown: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    for name in shown:
        (tmp_path / name).touch()
    assert allocator_variables({"PATH": "/bin"}, device, tmp_path) == expected


@pytest.mark.parametrize(
    "variable",
    ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "LD_PRELOAD"],
)
def test_what_the_user_has_chosen_stays(variable: str, tmp_path: Path) -> None:
    assert allocator_variables({variable: "1"}, Device.CPU, tmp_path) == {}


@pytest.mark.parametrize("variable", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_has_chosen_for_a_gpu_stays(variable: str, tmp_path: Path) -> None:
    assert allocator_variables({variable: "backend:native"}, Device.CUDA, tmp_path) == {}
