"""The pass that measures values and is learned from first: fewer passes, the same results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launching import Ended, Launching
from one_start import torchrun
from toy import training_config

from rlhf_trainer.contract import AttemptPaths, Phase

PROGRAM = Path(__file__).with_name("first_pass_phases.py")
TOLERANCE = 1e-5
STEPS = 2
ONE_MINIBATCH = {"minibatchSize": 16, "rolloutBatchSize": 16, "totalEpisodes": 16 * STEPS}
CASES: dict[str, dict[str, Any]] = {
    "separate": {"ppo": {"epochs": 2}},
    "several-micro-batches": {"ppo": {"tokensPerMicroBatch": 48}},
    "shared-trunk-recomputed": {
        "ppo": {"critic": "SharedTrunk"},
        "model": {"gradientCheckpointing": True},
    },
    "zero-2": {"deepspeed": {"zeroStage": 2}},
    "zero-3": {"deepspeed": {"zeroStage": 3}},
    "adapters": {"model": {"lora": {"rank": 4, "alpha": 8}}},
    "two-minibatches": {"ppo": {"minibatchSize": 8}},
}
MADE_ANEW = ("zero-3", "two-minibatches")
"""Where a pass that is kept could not go backward, or is not the first that is learned from."""

MORE_UPDATES = ("separate", "two-minibatches")
"""Where a rollout's statistics are those of several updates."""


class Runs:
    """Each case with the pass kept and made anew."""

    def __init__(self, trained: Launching, folder: Path) -> None:
        self._paths: dict[str, AttemptPaths] = {}
        cases = []
        for name, changes in CASES.items():
            changed = changes | {"ppo": ONE_MINIBATCH | changes.get("ppo", {})}
            for how in ("kept", "anew"):
                command, paths = trained.beside(Phase.PPO).command(
                    Phase.PPO, training_config(**changed)
                )
                self._paths[f"{name}-{how}"] = paths
                cases.append((f"{name}-{how}", command[3:]))
        file = folder / "cases.json"
        file.write_text(json.dumps(cases), encoding="utf-8")
        torchrun(PROGRAM, trained.processes, str(file), str(folder))
        self.passes: dict[str, int] = json.loads((folder / "counts.json").read_text("utf-8"))

    def history(self, name: str) -> list[dict[str, float]]:
        ended = Ended(0, self._paths[name], "")
        return [
            {key: value for key, value in record["values"].items() if "seconds" not in key}
            for record in ended.history
        ]


@pytest.fixture(scope="module")
def runs(
    trained_by: Callable[[int], tuple[Launching, dict[Phase, Ended]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    trained, _ = trained_by(1)
    return Runs(trained, tmp_path_factory.mktemp("first-pass"))


@pytest.mark.parametrize("case", CASES)
def test_a_kept_pass_changes_no_result(runs: Runs, case: str) -> None:
    kept, anew = runs.history(f"{case}-kept"), runs.history(f"{case}-anew")
    assert len(kept) == len(anew) == STEPS + 1
    for got, wanted in zip(kept, anew, strict=True):
        for key in ("reward_score", "kl_nats", 'loss{name="value"}', "gradient_norm"):
            assert (key in got) == (key in wanted)
            assert got.get(key, 0) == pytest.approx(
                wanted.get(key, 0), rel=TOLERANCE, abs=TOLERANCE
            )


@pytest.mark.parametrize("case", CASES)
def test_a_kept_pass_is_not_made_again(runs: Runs, case: str) -> None:
    spared = runs.passes[f"{case}-anew"] - runs.passes[f"{case}-kept"]
    assert spared == (0 if case in MADE_ANEW else STEPS)


@pytest.mark.parametrize("case", [name for name in CASES if name not in MORE_UPDATES])
def test_the_first_update_begins_at_ratio_one(runs: Runs, case: str) -> None:
    """Huang et al. 2023: in its first minibatch nothing is clipped, and nothing has moved."""
    for record in runs.history(f"{case}-kept")[:STEPS]:
        assert record["clip_fraction"] == 0
        assert record["policy_kl_nats_per_token"] == pytest.approx(0, abs=1e-9)
