"""`rlhf plan` up to the trainer's command, which is tested with a trainer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_operator.api import RLHFRun
from rlhf_operator.cli import plan as command
from rlhf_operator.cli.plan import Asked, plan_manifest
from rlhf_operator.errors import SpecError
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Hardware, Phase

GIB = 2**30
Build = Callable[..., RLHFRun]

POOLS = """\
pools:
  large: {gpusPerNode: 4, gpuMemoryBytes: 206158430208, maximumNodes: 2}
"""


@pytest.fixture
def asked_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Hardware, TrainingConfig]]:
    """Return what the trainer is told, in place of asking it."""

    def ask(run: RLHFRun, pools: Path | None = None, memory: float | None = None) -> object:
        told: list[tuple[Hardware, TrainingConfig]] = []

        def trainer(module: str, *words: str) -> int:
            options = dict(zip(words[::2], words[1::2], strict=False))
            hardware = Hardware.from_json(Path(options["--hardware"]).read_text("utf-8"))
            config = TrainingConfig.model_validate(
                json.loads(Path(options["--config"]).read_text())
            )
            told.append((hardware, config))
            return 20

        monkeypatch.setattr(command, "stream", trainer)
        asked = Asked(pools, memory, as_json=False)
        assert plan_manifest(run, Path("run.yaml"), asked) == 20
        return told[0]

    return ask  # type: ignore[return-value]


def test_plan_knows_the_a100s(
    build_run: Build, asked_of: Callable[..., tuple[Hardware, object]]
) -> None:
    run = build_run(
        "spec.placement={pool: a100-40gb, nodes: 2, gpusPerNode: 8}",
        "spec.workspace.accessMode=ReadWriteMany",
        "spec.sft.batchSize=64",
    )
    hardware, config = asked_of(run)
    assert set(hardware.places) == set(Phase) - {Phase.PREPARATION}
    ppo = hardware.places[Phase.PPO]
    assert (ppo.ranks, ppo.is_gpu, ppo.memory_bytes) == (16, True, 40 * GIB)
    assert config == run.spec.training()


def test_plan_reads_the_charts_pools(
    build_run: Build, asked_of: Callable[..., tuple[Hardware, object]], tmp_path: Path
) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(POOLS, encoding="utf-8")
    run = build_run("spec.placement={pool: large, gpusPerNode: 2}")
    ppo = asked_of(run, file)[0].places[Phase.PPO]
    assert (ppo.memory_bytes, ppo.maximum_processes, ppo.maximum_nodes) == (192 * GIB, 4, 2)
    assert asked_of(run, file, 141)[0].places[Phase.PPO].memory_bytes == 141 * GIB


def test_plan_on_this_machine_counts_its_memory_per_process(
    build_run: Build, asked_of: Callable[..., tuple[Hardware, object]]
) -> None:
    one, two = (
        asked_of(build_run(f"spec.placement.processesPerNode={count}"))[0].places[Phase.SFT]
        for count in (1, 2)
    )
    assert not one.is_gpu
    assert one.memory_bytes is not None
    assert two.memory_bytes == one.memory_bytes // 2


@pytest.mark.parametrize(
    ("text", "placement", "expected"),
    [
        pytest.param(POOLS, "{pool: other}", "use one of: large, local", id="unknown-pool"),
        pytest.param(POOLS, "{pool: large, gpusPerNode: 8}", "have 4", id="too-many-gpus"),
        pytest.param("replicas: 2", "{}", "declares no pools", id="no-pools"),
        pytest.param("a: [", "{}", "not YAML", id="no-yaml"),
        pytest.param(None, "{}", "cannot be read", id="no-file"),
    ],
)
def test_plan_names_what_is_wrong_with_pools(
    build_run: Build, tmp_path: Path, text: str | None, placement: str, expected: str
) -> None:
    file = tmp_path / "pools.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    run = build_run(f"spec.placement={placement}")
    with pytest.raises(SpecError, match=expected):
        plan_manifest(run, Path("run.yaml"), Asked(file, None, as_json=False))
