"""Whole runs one after the other in one process, which spares the imports.

Phases, engines and files are the real ones; only the launcher is left out. `run_all` starts this
file as a program, which ends at the first phase that fails.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedModel

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import Device
from rlhf_trainer.contract import AttemptPaths, Outcome, Phase, Result, Workspace
from rlhf_trainer.data.order import BatchStream, Tail
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.files import write_text
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.rollout.protocol import Response, row_uniforms
from rlhf_trainer.rollout.sampler import TransformersSampler
from rlhf_trainer.telemetry.telemetry import RunInfo, Telemetry


@dataclass(frozen=True)
class Run:
    """A workspace in which the phases of one configuration are run, each once."""

    data_root: str
    workspace: str
    config: dict[str, Any]
    phases: tuple[str, ...] = tuple(Phase)

    def paths(self, phase: Phase) -> AttemptPaths:
        return Workspace(Path(self.workspace)).attempt(1, phase, 1)

    def context(self, phase: Phase, telemetry: Telemetry) -> PhaseContext:
        return PhaseContext(
            config=TrainingConfig.model_validate(self.config),
            workspace=Workspace(Path(self.workspace)),
            data_root=Path(self.data_root),
            phase=phase,
            iteration=1,
            attempt=1,
            telemetry=telemetry,
        )

    def result(self, phase: Phase) -> Result:
        return Result.from_json(self.paths(phase).result.read_text("utf-8"))

    @property
    def last_record(self) -> dict[str, float]:
        """What PPO's last rollout measured."""
        lines = self.paths(Phase.PPO).history.read_text("utf-8").splitlines()
        values: dict[str, float] = json.loads(lines[-1])["values"]
        return values

    @property
    def prepared(self) -> PreparedData:
        return PreparedData(self.paths(Phase.PREPARATION).data)

    def policy(self, phase: Phase) -> PreTrainedModel:
        lm: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.paths(phase).model)
        return lm

    def last_rollout(self) -> tuple[list[PromptTokens], list[Response]]:
        """Repeat the last rollout of PPO with the exported policy, as plain transformers reads it.

        Draws depend on seed, step and row alone, so it is the same if the policy is.
        """
        config = TrainingConfig.model_validate(self.config)
        ppo, prompts = config.ppo, self.prepared.prompts()
        stream = BatchStream(
            len(prompts), ppo.rollout_batch_size, seed=config.seed, tail=Tail.NEXT_EPOCH
        )
        rows = [stream.next_batch() for _ in range(ppo.total_steps + 1)][-1]
        sampler = TransformersSampler(
            self.policy(Phase.PPO),
            eos_token=self.prepared.special_tokens().eos,
            temperature=ppo.temperature,
            maximum_tokens=ppo.maximum_response_tokens,
            budget_tokens=10_000,
        )
        uniforms = row_uniforms(
            config.seed,
            ppo.total_steps,
            range(ppo.rollout_batch_size),
            ppo.maximum_response_tokens,
        )
        chosen = [prompts[row] for row in rows]
        return chosen, sampler.sample([prompt.tokens for prompt in chosen], uniforms)


def sequence_of(prompt: PromptTokens, response: Response) -> NDArray[np.int64]:
    return np.concatenate([prompt.tokens, response.tokens])


def run_all(runs: Sequence[Run], folder: Path) -> str:
    """Run them in a process of their own; return what it wrote to its log."""
    file = folder / "runs.json"
    file.write_text(json.dumps([asdict(run) for run in runs]), "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", __file__, str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def _run_phase(context: PhaseContext, ranks: process_group.Ranks) -> None:
    module = importlib.import_module(f"rlhf_trainer.phases.{context.phase.slug.replace('-', '_')}")
    alone = context.phase is Phase.PREPARATION
    report = module.run(context) if alone else module.run(context, ranks)
    result = Result(
        phase=context.phase,
        outcome=Outcome.COMPLETED,
        message=report.message,
        metrics=report.metrics,
        step=report.step,
    )
    write_text(context.paths.result, result.to_json())


def main(file: Path) -> None:
    ranks = process_group.start(Device.CPU)
    for run in [Run(**item) for item in json.loads(file.read_text("utf-8"))]:
        for phase in map(Phase, run.phases):
            paths = run.paths(phase)
            paths.root.mkdir(parents=True)
            info = RunInfo("toy", phase, 1, 1)
            with Telemetry.open(paths, info, port=None, is_main=True) as telemetry:
                _run_phase(run.context(phase, telemetry), ranks)
    process_group.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
