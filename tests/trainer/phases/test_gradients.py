"""Gradients themselves, in whole phases: what they must not depend on, and who trains on what.

Micro-batches, ranks and packing are ways to compute one sum.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launching import Launching
from one_start import torchrun
from toy import NEUTRAL, PLEASANT, UNPLEASANT, make_run, training_config
from transformers import BloomConfig, BloomForCausalLM

from rlhf_trainer.contract import Outcome, Phase, Workspace
from rlhf_trainer.data.prepared import PreparedData

PROGRAM = Path(__file__).with_name("observed_phases.py")
FIRST_TOLERANCE = 1e-5
"""Relative to the gradient's norm, before any update: in float32 the order of a sum changes it by
about 1e-7 of its terms, and terms cancel. Seen here: up to 1.1e-6."""
LATER_TOLERANCE = 3e-4
"""After updates: Adam divides by the root of small second moments, which magnifies. Seen
here: up to 2.6e-5."""
LOSS_TOLERANCE = 1e-5
"""Absolute; losses are of order 1. Seen here: up to 3.6e-7."""
BATCH, EPOCHS, ROLLOUTS = 8, 2, 16
NUM_ROWS = 28
UNSCALED = {"maximumGradientNorm": 1e6, "warmupSteps": 0, "maximumSteps": None}
PLAIN: dict[str, Any] = {"packing": False}
SMALL, PACKED = PLAIN | {"tokensPerMicroBatch": 16}, {"packing": True}
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "1-rank-1x8": (1, PLAIN),
    "1-rank-8x1": (1, SMALL),
    "1-rank-packed": (1, PACKED),
    "2-ranks-1x4": (2, PLAIN),
    "2-ranks-4x1": (2, SMALL),
    "2-ranks-packed": (2, PACKED | {"tokensPerMicroBatch": 48}),
}
REFERENCE = "1-rank-1x8"
CASES: dict[str, tuple[Phase, str, dict[str, Any]]] = {
    "sft": (Phase.SFT, "sft", {}),
    "reward-model": (Phase.REWARD_MODEL, "rewardModel", {}),
    "ppo": (Phase.PPO, "ppo", {"critic": "Separate"}),
    "ppo-shared-trunk": (Phase.PPO, "ppo", {"critic": "SharedTrunk"}),
}
UNPACKABLE = {"ppo": {"sft": {"from": {"path": "bloom"}}}} | {
    "sft": {"model": {"source": "bloom"}},
    "reward-model": {"rewardModel": {"model": {"source": "bloom"}}},
}
"""Changes by which a phase begins with a model that does not keep packed sequences apart."""
Observed = dict[str, Any]


def make_long_run(root: Path) -> Path:
    """A toy run whose sequences have 9 tokens or more: two never fit a micro-batch of 16."""
    make_run(root)
    sizes = {"hidden_size": 32, "n_layer": 1, "n_head": 2, "vocab_size": 64}
    BloomForCausalLM(BloomConfig(**sizes)).save_pretrained(root / "bloom")
    rng = np.random.default_rng(0)

    def words(least: int, among: Sequence[str] = NEUTRAL) -> str:
        return " ".join(rng.choice(among, int(rng.integers(least, least + 8))))

    everything = (*NEUTRAL, *PLEASANT, *UNPLEASANT)
    rows = {
        "demonstrations": lambda: {"prompt": words(4), "completion": words(5, everything)},
        "comparisons": lambda: {
            "prompt": words(4),
            "chosen": words(5, PLEASANT),
            "rejected": words(5, UNPLEASANT),
        },
        "prompts": lambda: {"prompt": words(9)},
    }
    for name, row in rows.items():
        lines = [json.dumps(row()) + "\n" for _ in range(NUM_ROWS)]
        (root / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return root


def config(section: str = "sft", **changes: Any) -> dict[str, Any]:
    common = {
        "sft": UNSCALED | {"batchSize": BATCH, "epochs": EPOCHS},
        "rewardModel": UNSCALED | {"batchSize": BATCH, "epochs": EPOCHS},
        "ppo": {
            "maximumGradientNorm": 1e6,
            "totalEpisodes": ROLLOUTS,
            "rolloutBatchSize": ROLLOUTS,
            "minibatchSize": BATCH,
            "epochs": EPOCHS,
        },
        "checkpoint": {"everySteps": 1000},
    }
    common[section] = common[section] | changes
    return training_config(**common)


class Running:
    """Runs cases in one process group per number of ranks, and keeps what was observed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        data = make_long_run(folder / "data")
        self.base = Launching(data, folder / "base")
        before = [Phase.PREPARATION, Phase.SFT, Phase.REWARD_MODEL]
        start = [(phase.slug, self.base.command(phase, config())[0]) for phase in before]
        for phase in before:  # what other workspaces point at need not be there yet
            (self.base.workspace / "iteration-1" / phase.slug).mkdir(parents=True)
        for count in (1, 2):
            cases = [
                (f"{case}.{variant}", self._command(case, count, changes))
                for variant, (ranks, changes) in VARIANTS.items()
                for case in CASES
                if ranks == count
            ]
            if count == 1:
                cases = [*start, *cases, *self._refused()]
            else:
                cases.append(("dropout", self._command("reward-model", 2, {"dropout": 0.3})))
            self._run(count, cases)

    def _command(self, case: str, ranks: int, changes: dict[str, Any]) -> list[str]:
        phase, section, own = CASES[case]
        launching = replace(self.base.beside(phase), processes=ranks)
        return launching.command(phase, config(section, **own, **changes))[0]

    def _refused(self) -> Iterator[tuple[str, list[str]]]:
        for case, changes in UNPACKABLE.items():
            phase, section, _ = CASES[case]
            settings = config(section, packing=True)
            for name, values in changes.items():
                settings[name] = settings.get(name, {}) | values
            yield f"refused-{case}", self.base.beside(phase).command(phase, settings)[0]

    def _run(self, ranks: int, cases: list[tuple[str, list[str]]]) -> None:
        file = self._folder / f"cases-{ranks}.json"
        # What follows the program is the phase's own command line.
        file.write_text(json.dumps([(name, command[3:]) for name, command in cases]))
        torchrun(PROGRAM, ranks, str(file), str(self._folder))

    def seen(self, case: str, variant: str) -> list[Observed]:
        """Return what each rank saw."""
        ranks, _ = VARIANTS[variant]
        seen = [self.load(f"{case}.{variant}-{ranks}-{rank}") for rank in range(ranks)]
        for rank in seen:
            assert rank["outcome"] == Outcome.COMPLETED, rank["message"]
        return seen

    def load(self, name: str) -> Observed:
        observed: Observed = torch.load(self._folder / f"{name}.pt")
        return observed

    def prepared(self) -> PreparedData:
        return PreparedData(Workspace(self.base.workspace).attempt(1, Phase.PREPARATION, 1).data)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Running:
    return Running(tmp_path_factory.mktemp("gradients"))


def counted(seen: list[Observed], update: int) -> Counter[tuple[int, ...]]:
    """Return how often each sequence was trained on in an update, by all ranks."""
    return Counter(tuple(row) for rank in seen for row in rank["updates"][update]["sequences"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != REFERENCE])
def test_losses_and_gradients_are_those_of_one_rank_and_one_micro_batch(
    running: Running, variant: str, case: str
) -> None:
    expected, seen = running.seen(case, REFERENCE), running.seen(case, variant)
    trained: set[str] = set()
    for index, wanted in enumerate(expected[0]["updates"]):
        got = [rank["updates"][index] for rank in seen]
        assert counted(seen, index) == counted(expected, index)
        assert sum(one["loss"] for one in got) == pytest.approx(wanted["loss"], abs=LOSS_TOLERANCE)
        tolerance = LATER_TOLERANCE if wanted["network"] in trained else FIRST_TOLERANCE
        trained.add(wanted["network"])
        norm = wanted["gradient"].norm()
        assert norm > 0
        for one in got:
            assert one["network"] == wanted["network"]
            assert (one["gradient"] - wanted["gradient"]).norm() < tolerance * norm
            assert one["norm"] == pytest.approx(float(norm), rel=tolerance)
    assert {len(rank["updates"]) for rank in seen} == {len(expected[0]["updates"])}


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_are_those_of_the_variants_names(running: Running, case: str) -> None:
    def rows(variant: str) -> list[list[int]]:
        return [rank["updates"][0]["rows"] for rank in running.seen(case, variant)]

    assert rows("1-rank-1x8") == rows("1-rank-packed") == [[8]]
    assert rows("1-rank-8x1") == [[1] * 8]
    assert rows("2-ranks-1x4") == [[4]] * 2
    assert rows("2-ranks-4x1") == [[1] * 4] * 2
    assert max(map(len, rows("2-ranks-packed"))) > 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_demonstration_is_trained_on_once_per_epoch(running: Running, variant: str) -> None:
    data = running.prepared().demonstrations()
    rows = Counter(tuple(data[row].tokens.tolist()) for row in range(len(data)))
    check_epochs(running.seen("sft", variant), rows, len(data))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_comparison_is_trained_on_once_per_epoch(running: Running, variant: str) -> None:
    data = running.prepared().pairs()
    pairs = [data[row] for row in range(len(data))]
    rows = Counter(tuple(side.tolist()) for pair in pairs for side in (pair.chosen, pair.rejected))
    check_epochs(running.seen("reward-model", variant), rows, len(data))


def check_epochs(seen: list[Observed], rows: Counter[tuple[int, ...]], num_rows: int) -> None:
    assert num_rows % BATCH % 2 == 1  # the tail is uneven for two ranks
    per_epoch = -(-num_rows // BATCH)
    assert len(seen[0]["updates"]) == EPOCHS * per_epoch
    for epoch in range(EPOCHS):
        updates = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        assert sum((counted(seen, update) for update in updates), Counter()) == rows
    for update in range(EPOCHS * per_epoch):
        shares = [sum(rank["updates"][update]["rows"]) for rank in seen]
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_rollout_is_learned_from_once_per_epoch(running: Running, variant: str) -> None:
    seen = running.seen("ppo", variant)
    for network in ("Policy", "ScalarHead"):
        updates = [
            index for index, update in enumerate(seen[0]["updates"]) if update["network"] == network
        ]
        half = len(updates) // EPOCHS
        epochs = [
            sum((counted(seen, update) for update in part), Counter())
            for part in (updates[:half], updates[half:])
        ]
        assert epochs[0].total() == ROLLOUTS
        assert epochs[0] == epochs[1]


@pytest.mark.parametrize("case", UNPACKABLE)
def test_a_phase_whose_model_does_not_pack_ends_before_it_trains(
    running: Running, case: str
) -> None:
    seen = running.load(f"refused-{case}-1-0")
    assert seen["outcome"] == Outcome.INVALID
    assert "packing=true: " in seen["message"]
    assert "does not keep packed sequences apart" in seen["message"]
    assert not seen["updates"]


def test_a_new_head_is_drawn_alike_on_every_rank(running: Running) -> None:
    alone = running.seen("reward-model", REFERENCE)[0]["heads"][0]
    for rank in running.seen("reward-model", "2-ranks-1x4"):
        assert torch.equal(rank["heads"][0], alone)


def test_dropout_is_drawn_anew_on_every_rank_and_in_every_update(running: Running) -> None:
    ranks = [running.load(f"dropout-2-{rank}")["dropout"] for rank in (0, 1)]
    masks = [mask for rank in ranks for mask in rank[:2]]
    assert {tuple(mask.shape) for mask in masks} == {(BATCH, masks[0].shape[1])}
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks)
    assert float(torch.stack(masks).float().mean()) == pytest.approx(0.3, abs=0.05)
