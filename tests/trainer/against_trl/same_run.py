"""The same PPO run on both sides: one set of hyper-parameters, said in both languages."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launching import Launching
from peer import Peer
from start import start_config

from rlhf_trainer.contract import Phase
from rlhf_trainer.data.prepared import PreparedData
from trl_page import Side


@dataclass(frozen=True)
class Run:
    """Hyper-parameters of one run."""

    steps: int
    batch: int = 64
    minibatch: int = 16
    epochs: int = 2
    learning_rate: float = 1e-3
    kl_coefficient: float = 0.15
    response_tokens: int = 16
    temperature: float = 0.8
    gae_lambda: float = 0.95

    @property
    def for_trl(self) -> dict[str, Any]:
        """`PPOConfig` of TRL. Without gradient accumulation each minibatch is an update."""
        return {
            "per_device_train_batch_size": self.batch,
            "gradient_accumulation_steps": 1,
            "num_mini_batches": self.batch // self.minibatch,
            "num_ppo_epochs": self.epochs,
            "total_episodes": self.steps * self.batch,
            "local_rollout_forward_batch_size": self.batch,
            "response_length": self.response_tokens,
            "stop_token": "eos",
            "temperature": self.temperature,
            "learning_rate": self.learning_rate,
            "kl_coef": self.kl_coefficient,
            "lam": self.gae_lambda,
            # Ours as they are by default: TRL's are those of transformers.
            "adam_beta2": 0.95,
            "adam_epsilon": 1e-5,
        }

    def for_ours(self, seed: int) -> dict[str, Any]:
        """Return the trainer's configuration."""
        ppo = {
            "rolloutBatchSize": self.batch,
            "minibatchSize": self.minibatch,
            "epochs": self.epochs,
            "totalEpisodes": self.steps * self.batch,
            "maximumResponseTokens": self.response_tokens,
            "temperature": self.temperature,
            "learningRate": self.learning_rate,
            "gaeLambda": self.gae_lambda,
            "kl": {"coefficient": self.kl_coefficient, "controller": "Fixed"},
            "maximumGradientNorm": 1e6,  # TRL's trainer does not clip gradients
        }
        return start_config(
            seed=seed,
            ppo=ppo,
            guard={"kl": {"limitNats": 1e4, "action": "Warn"}},
            checkpoint={"everySteps": self.steps},
        )


def run_trl(peer: Peer, run: Run, seeds: list[int], prepared: Launching, folder: Path) -> Side:
    """Return TRL's curves, one list of steps per seed."""
    paths = prepared.command(Phase.PREPARATION, {})[1]
    prompts = PreparedData(paths.data).prompts()
    start = prepared.data_root
    task = {
        "sft": str(start / "sft"),
        "reference": str(start / "sft"),
        "reward": str(start / "reward"),
        "valueHeadScale": 0.0,
        "prompts": [prompts[row].tokens.tolist() for row in range(len(prompts))],
        "seeds": seeds,
        "settings": run.for_trl,
        "curves": str(folder / "curves.json"),
    }
    peer.run("trl_ppo.py", task, folder)
    curves = json.loads(Path(task["curves"]).read_text(encoding="utf-8"))
    return {
        metric: [[row[name] for row in curves[str(seed)]] for seed in seeds]
        for metric, name in (("reward", "objective/scores"), ("KL", "objective/kl"))
    }


def run_ours(run: Run, seeds: list[int], prepared: Launching) -> Side:
    """Return our curves; the rollout that only measures the last policy is left out."""
    curves: dict[str, list[list[float]]] = {"reward": [], "KL": []}
    for seed in seeds:
        end = prepared.beside(Phase.PPO).run(Phase.PPO, run.for_ours(seed))
        assert end.code == 0, end.output[-3000:]
        values = [record["values"] for record in end.history[: run.steps]]
        curves["reward"].append([one["reward_score"] for one in values])
        curves["KL"].append([one["kl_nats"] for one in values])
    return curves


def with_weaker_penalty(run: Run) -> Run:
    """Return a run that ought to be told from `run`."""
    return replace(run, kl_coefficient=run.kl_coefficient / 3)
