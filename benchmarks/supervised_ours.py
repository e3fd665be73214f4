"""Our SFT or reward model training, step by step, through the phase itself.

`python benchmarks/supervised_ours.py --phase sft --case a --threads 1 --steps 3`; a batch is all
demonstrations, or all comparisons, of the start, so that every step has the same rows.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ppo_ours import Timed, alone, start_of
from ppo_start import CASES, LEARNING_RATE, Case, start_config
from stopwatch import EnoughError, Pace, summary

PHASES = ("sft", "reward-model")
WEIGHT_DECAY = {"sft": 0.0, "reward-model": 0.1}
_NEVER = 1_000_000


def config_of(case: Case, phase: str) -> dict[str, Any]:
    """Return the trainer's configuration of a phase on a case's model."""
    settings = {
        "batchSize": case.prompts,
        "epochs": 1000,
        "learningRate": LEARNING_RATE,
        "schedule": "Constant",
        "warmupSteps": 0,
        "weightDecay": WEIGHT_DECAY[phase],
    }
    if phase == "sft":
        return start_config(sft=settings | {"validateEverySteps": _NEVER})
    validation = {"earlyStopping": {"validateEverySteps": _NEVER}, "minimumAccuracy": 0.0}
    return start_config(rewardModel=settings | validation)


def run_phase(case: Case, phase_name: str, start: Path, pace: Pace, threads: int) -> None:
    """Run a phase until the pace has had enough."""
    with alone(threads) as ranks, suppress(EnoughError):
        from ppo_workspace import context_of  # noqa: PLC0415 - DeepSpeed asks for a device at once
        from rlhf_trainer.contract import Phase  # noqa: PLC0415
        from rlhf_trainer.phases import reward_model, sft  # noqa: PLC0415

        phase, module = {
            "sft": (Phase.SFT, sft),
            "reward-model": (Phase.REWARD_MODEL, reward_model),
        }[phase_name]
        config = config_of(case, phase_name)
        module.run(context_of(start, phase, config, Timed(pace), attempt=os.getpid()), ranks)


def main(argv: Sequence[str]) -> None:
    """Run a phase and print what its steps took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", choices=PHASES, required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="the first is not counted")
    parser.add_argument("--start", type=Path, help="folder of a start, made there if missing")
    parser.add_argument("--paced", action="store_true", help="step when a line on stdin says so")
    arguments = parser.parse_args(argv)
    pace = Pace(arguments.steps, paced=arguments.paced)
    with start_of(arguments.case, arguments.start) as start:
        run_phase(CASES[arguments.case], arguments.phase, start, pace, arguments.threads)
    if pace.done:
        print(json.dumps(summary(pace.done)))


if __name__ == "__main__":
    main(sys.argv[1:])
