import os
from pathlib import Path

import pytest

from rlhf_trainer.launch import threads
from rlhf_trainer.launch.threads import threads_per_rank, usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("on_gpu", "offload", "num_ranks", "expected"),
    [
        pytest.param(False, True, 1, 1, id="cpu"),
        pytest.param(True, False, 1, 1, id="all-on-the-gpu"),
        pytest.param(True, True, 8, 12, id="share-of-the-cores"),
        pytest.param(True, True, 200, 1, id="more-ranks-than-cores"),
    ],
)
def test_only_steps_on_the_host_beside_gpus_take_several_threads(
    monkeypatch: pytest.MonkeyPatch, *, on_gpu: bool, offload: bool, num_ranks: int, expected: int
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 96)
    found = threads_per_rank(num_ranks, on_gpu=on_gpu, offload_optimizer=offload)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("max 100000\n", CORES, id="no-limit"),
        pytest.param("100000 100000\n", 1, id="one-core"),
        pytest.param("50000 100000\n", 1, id="half-a-core"),
        pytest.param("9900000 100000\n", CORES, id="more-than-there-are"),
        pytest.param("nonsense", CORES, id="another-format"),
    ],
)
def test_containers_use_no_more_than_they_are_given(
    tmp_path: Path, text: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(text, "utf-8")
    assert usable_cores(tmp_path / "cpu.max") == expected


def test_systems_without_limits_show_all_cores(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "cpu.max") == CORES
