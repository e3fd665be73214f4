"""Run under torchrun: every phase in many configurations, one after the other in one process.

Arguments: data root, workspace with Preparation,
folder for the cells' workspaces, and the cells as JSON: name -> changes of the toy configuration.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from toy import training_config
from transformers.utils import logging as transformers_logging

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import Device
from rlhf_trainer.contract import Outcome, Phase, Result, Workspace
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.models import log_probs
from rlhf_trainer.phases import ppo, reward_model, running
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.telemetry.telemetry import RunInfo, Telemetry

CHUNK_BYTES = 512
"""Logits of five tokens of the toy's vocabulary."""

ORIGINAL_NORMALISE = reward_model._normalise

PHASES = (Phase.SFT, Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION)


def run_cell(
    changes: dict[str, Any], ranks: process_group.Ranks, data_root: Path, workspace: Workspace
) -> None:
    config = TrainingConfig.model_validate(training_config(**changes))
    taken = {Phase.SFT: config.sft.from_, Phase.REWARD_MODEL: config.reward_model.from_}
    for phase in PHASES:
        if taken.get(phase):
            continue
        paths = workspace.attempt(1, phase, 1)
        if ranks.is_main:
            paths.root.mkdir(parents=True)
        ranks.barrier()
        info = RunInfo("matrix", phase, 1, 1)
        with Telemetry.open(paths, info, port=None, is_main=ranks.is_main) as telemetry:
            context = PhaseContext(config, workspace, data_root, phase, 1, 1, telemetry)
            if phase is Phase.PPO and ranks.world_size == 1:
                sizes = weight_bytes(context, ranks)
                (paths.root / "weight-bytes.json").write_text(json.dumps(sizes), encoding="utf-8")
            if phase is Phase.REWARD_MODEL and ranks.world_size == 1:
                note_what_is_left(paths.root / "bytes-after-training.json")
            torch.manual_seed(config.seed * ranks.world_size + ranks.rank)
            # The phase's own function: starting a process for each of them is tested elsewhere.
            report = running._trained_phase(phase)(context, ranks)
        if ranks.is_main:
            result = Result(
                phase=phase,
                outcome=Outcome.COMPLETED,
                message=report.message,
                step=report.step,
                metrics=report.metrics,
            )
            paths.result.write_text(result.to_json(), encoding="utf-8")
        ranks.barrier()
        gc.collect()  # DeepSpeed's engines are cyclic


def weight_bytes(context: PhaseContext, ranks: process_group.Ranks) -> dict[str, int]:
    """Return what PPO's networks take, counted over all storages that are new and alive."""
    before = storages()
    networks = ppo._networks(context, ranks, context.prepared().special_tokens().eos)
    made = {place: size for place, size in storages().items() if place not in before}
    named = list(networks.policy_engine.module.named_parameters())
    adapters = sum(value.nbytes for name, value in named if "lora_" in name)
    base = sum(value.nbytes for name, value in named if name.startswith("lm.")) - adapters
    return {"all": sum(made.values()), "adapters": adapters, "base": base}


def note_what_is_left(file: Path) -> None:
    """Have the reward model's phase tell what it still holds when it loads its model again."""
    before, normalise = storages(), ORIGINAL_NORMALISE

    def told(*arguments: Any) -> Any:
        left = sum(size for place, size in storages().items() if place not in before)
        file.write_text(json.dumps(left), encoding="utf-8")
        return normalise(*arguments)

    reward_model._normalise = told


def storages() -> dict[int, int]:
    found = [item for item in gc.get_objects() if isinstance(item, torch.Tensor)]
    whole = [tensor.untyped_storage() for tensor in found]
    return {storage.data_ptr(): storage.nbytes() for storage in whole}


def main() -> None:
    data_root, prepared, root = map(Path, sys.argv[1:4])
    # A cell may go on from what an earlier one exported.
    cells: dict[str, dict[str, Any]] = json.loads(sys.argv[4].replace("ROOT", str(root)))
    transformers_logging.disable_progress_bar()
    ranks = process_group.start(Device.CPU)
    if ranks.world_size > 1:
        # As with a large vocabulary: ranks cut their tokens into chunks, one into more than others.
        log_probs.CHUNK_BYTES = CHUNK_BYTES
    for name, changes in cells.items():
        started = time.perf_counter()
        workspace = Workspace(root / name)
        if ranks.is_main:
            (root / name / "iteration-1").mkdir(parents=True)
            source = prepared / "iteration-1" / Phase.PREPARATION.slug
            (root / name / "iteration-1" / Phase.PREPARATION.slug).symlink_to(source)
        ranks.barrier()
        run_cell(changes, ranks, data_root, workspace)
        if ranks.is_main:
            print(f"CELL {name}: {time.perf_counter() - started:.1f} s", flush=True)  # noqa: T201 - for who waits
    process_group.stop()


if __name__ == "__main__":
    sys.exit(main())
