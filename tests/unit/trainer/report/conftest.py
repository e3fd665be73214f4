"""Workspaces of made-up runs: finished well, stopped on KL, failed a gate, and rarer ends."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_trainer.contract import AttemptPaths, HistoryRecord, Outcome, Phase, Result, Workspace

SPEC: dict[str, Any] = {
    "model": {"source": "base-model", "device": "CPU"},
    "data": {
        "demonstrations": {"path": "demonstrations.jsonl"},
        "comparisons": {"path": "comparisons.jsonl", "minimumAgreement": {"atLeast": 0.4}},
        "prompts": {"path": "prompts.jsonl", "maximumTokens": 16},
    },
    "sft": {"learningRate": 1e-3, "batchSize": 64},
    "rewardModel": {"learningRate": 1e-3, "minimumAccuracy": 0.62},
    "ppo": {
        "totalEpisodes": 1600,
        "rolloutBatchSize": 64,
        "minibatchSize": 32,
        "epochs": 2,
        "learningRate": 5e-4,
        "maximumResponseTokens": 24,
        "kl": {"coefficient": 0.15, "targetNats": 4},
    },
    "evaluation": {
        "promptCount": 256,
        "judge": {"kind": "EntryPoint", "entryPoint": "movie_reviews.judge:score"},
    },
    "guard": {"kl": {"limitNats": 10}},
    "seed": 0,
}

SAMPLES = [
    ("the film is", "a bit of a mess , and it is not a good movie", "a warm and moving story"),
    ("an overly", "familiar tale with little to say", "familiar but funny and touching drama"),
    ("it 's a", "long , dull and lifeless thriller", "funny , moving and smart comedy of manners"),
    ("the performances", "are fine , the script is not", "are wonderful , and so is the script"),
    ("with its", "slow pacing the film never finds a point", "great cast , a delight from start"),
    ("a thriller", "that never thrills", "that is smart , tense and beautifully made"),
    ("one of the", "worst films of the year", "best films of the year"),
    ("this is", "not a movie i would see twice", "a movie to see twice"),
    ("the director", "has made a film that is hard to follow", "has made a lovely , moving film"),
    ("for all its", "noise there is nothing here", "noise it has a big and tender heart"),
]


def write_history(paths: AttemptPaths, records: list[HistoryRecord]) -> None:
    paths.root.mkdir(parents=True, exist_ok=True)
    lines = [record.model_dump_json(by_alias=True) + "\n" for record in records]
    paths.history.write_text("".join(lines), encoding="utf-8")


def write_result(paths: AttemptPaths, result: Result) -> None:
    paths.root.mkdir(parents=True, exist_ok=True)
    paths.result.write_text(result.to_json(), encoding="utf-8")


class MadeUpRun:
    """Writes a workspace phase by phase."""

    def __init__(self, root: Path, name: str = "movie-reviews", seed: int = 0) -> None:
        self.workspace = Workspace(root)
        self.name = name
        self.spec: dict[str, Any] = json.loads(json.dumps(SPEC))
        self.status: dict[str, Any] = {"phases": []}
        self.rng = np.random.default_rng(seed)
        self.workspace.root.mkdir(parents=True, exist_ok=True)

    def attempt(self, phase: Phase, attempt: int = 1) -> AttemptPaths:
        return self.workspace.attempt(1, phase, attempt)

    def end(self, phase: Phase, outcome: Outcome, message: str, **more: Any) -> None:
        result = Result(phase=phase, outcome=outcome, message=message, **more)
        write_result(self.attempt(phase), result)

    def preparation(self) -> None:
        self.end(
            Phase.PREPARATION,
            Outcome.COMPLETED,
            "5831 demonstrations, 9204 comparisons, 4102 prompts; Fleiss kappa 0.72",
            duration_seconds=6.2,
            metrics={"fleissKappa": 0.716},
        )

    def sft(self, steps: int = 90) -> None:
        records = []
        for step in range(1, steps + 1):
            loss = 3.1 + 1.6 * np.exp(-step / 22) + 0.05 * self.rng.normal()
            values = {
                'loss{name="sft"}': float(loss),
                "learning_rate": 1e-3 * min(1.0, step / 10) * (0.55 + 0.45 * np.cos(step / 29)),
                "gradient_norm": float(0.9 + 0.5 * np.exp(-step / 10) + 0.1 * self.rng.random()),
            }
            if step % 10 == 0 or step == 1:
                values['loss{name="validation"}'] = float(3.22 + 1.6 * np.exp(-step / 22))
            seconds = {"update": 0.42 + 0.05 * float(self.rng.random())}
            records.append(HistoryRecord(step=step, time=1.0, values=values, stage_seconds=seconds))
        write_history(self.attempt(Phase.SFT), records)
        self.end(
            Phase.SFT,
            Outcome.COMPLETED,
            "learned 5831 demonstrations in 90 steps: validation loss 4.702 -> 3.241",
            duration_seconds=44.8,
            step=steps,
            model_path="iteration-1/sft/attempt-1/model",
        )

    def reward_model(self, *, best: float = 0.787) -> None:
        records = []
        for step in range(1, 151):
            learned = 1 - np.exp(-step / 45)
            values = {
                'loss{name="reward"}': float(0.69 - 0.5 * (best - 0.5) * learned * 1.6)
                + 0.02 * float(self.rng.normal()),
                "learning_rate": 1e-3 * min(1.0, step / 10) * (0.55 + 0.45 * np.cos(step / 48)),
                "gradient_norm": float(0.5 + 0.08 * self.rng.normal()),
            }
            if step % 10 == 0:
                accuracy = 0.5 + (best - 0.5) * learned / (1 - np.exp(-150 / 45))
                values["preference_accuracy"] = float(accuracy + 0.006 * self.rng.normal())
                values["preference_margin_score"] = float(1.4 * (accuracy - 0.5) * 4)
            seconds = {"update": 0.25, "validation": 0.4 if step % 10 == 0 else 0.0}
            records.append(HistoryRecord(step=step, time=1.0, values=values, stage_seconds=seconds))
        write_history(self.attempt(Phase.REWARD_MODEL), records)
        outcome, message, reason = Outcome.COMPLETED, f"orders {best:.1%} of 460 held-out", ""
        if best < 0.62:
            outcome, reason = Outcome.GATE_FAILED, "AccuracyTooLow"
            message = (
                f"validation accuracy {best:.3f} is below rewardModel.minimumAccuracy=0.62: PPO "
                "would optimise noise; look at the comparisons' agreement, add comparisons, or "
                "train longer"
            )
        else:
            message += " comparisons as people do (best at step 150)"
        self.end(
            Phase.REWARD_MODEL,
            outcome,
            message,
            reason=reason,
            duration_seconds=48.1,
            step=150,
            model_path="iteration-1/reward-model/attempt-1/model",
            metrics={"validationAccuracy": best},
        )

    def ppo_records(self, kls: list[float], limit: float = 10.0) -> list[HistoryRecord]:
        records = []
        for step, kl in enumerate(kls):
            moved = 1 - np.exp(-step / 9)
            noise = self.rng.normal(size=4)
            values = {
                "kl_nats": kl,
                "kl_standard_error_nats": 0.12 + 0.05 * abs(kl) / 4,
                "kl_limit_nats": limit,
                "kl_target_nats": 4.0,
                "kl_coefficient": 0.15 * 1.002**step,
                "reward_score": float(-0.05 + 1.05 * moved + 0.05 * noise[0]),
                "entropy_nats_per_token": float(2.9 - 0.9 * moved + 0.03 * noise[1]),
                "response_length_tokens": float(19.5 - 3.5 * moved + 0.3 * noise[2]),
                "distinct_2_ratio": float(0.69 - 0.15 * moved + 0.008 * noise[3]),
                "missing_eos_fraction": float(0.38 - 0.2 * moved),
                'loss{name="policy"}': float(-0.01 - 0.01 * self.rng.random()),
                'loss{name="value"}': float(0.2 + 0.6 * np.exp(-step / 5)),
                "clip_fraction": float(0.08 + 0.05 * self.rng.random()),
                "policy_kl_nats_per_token": float(0.01 + 0.004 * self.rng.random()),
                "value_explained_variance": float(0.75 * moved),
                "gradient_norm": float(0.7 + 0.1 * self.rng.random()),
                "learning_rate": 5e-4 * min(1.0, (step + 1) / 10),
            }
            seconds = {
                "rollout": 0.34 + 0.02 * float(self.rng.random()),
                "reference": 0.09,
                "value": 0.08,
                "score": 0.07,
                "update": 0.52 + 0.03 * float(self.rng.random()),
            }
            if step and step % 10 == 0:
                seconds["checkpoint"] = 0.21
            records.append(HistoryRecord(step=step, time=1.0, values=values, stage_seconds=seconds))
        return records

    def ppo(self, steps: int = 25) -> None:
        kls = [
            float(4.6 * (1 - np.exp(-step / 7)) + 0.35 * self.rng.normal() * (step > 0))
            for step in range(steps + 1)
        ]
        write_history(self.attempt(Phase.PPO), self.ppo_records(kls))
        self.end(
            Phase.PPO,
            Outcome.COMPLETED,
            f"25 steps: reward +0.97, KL {kls[-1]:.2f} nats (limit 10)",
            step=steps,
            duration_seconds=29.3,
            certified_step=steps,
            model_path="iteration-1/ppo/attempt-1/model",
            metrics={"klNats": kls[-1], "klLimitNats": 10.0},
        )

    def breach(self) -> None:
        kls = [0.0, 1.9, 8.7, 14.2, 24.6]
        records = self.ppo_records(kls)
        message = (
            "KL was 24.6 nats per response at step 4, above guard.kl.ceilingNats=20 "
            "(limit 10): raise ppo.kl.coefficient or lower ppo.learningRate"
        )
        records[-1] = records[-1].model_copy(update={"event": message})
        write_history(self.attempt(Phase.PPO), records)
        self.spec["ppo"]["kl"] = {"coefficient": 0, "controller": "Fixed"}
        self.end(
            Phase.PPO,
            Outcome.STOPPED,
            f"{message}; exported the policy of step 2, the newest whole one inside the limit",
            reason="KLCeilingExceeded",
            step=4,
            certified_step=2,
            duration_seconds=6.4,
            model_path="iteration-1/ppo/attempt-1/model",
            metrics={"klNats": 24.6, "klLimitNats": 10.0},
        )

    def evaluation(self) -> None:
        paths = self.attempt(Phase.EVALUATION)
        paths.root.mkdir(parents=True, exist_ok=True)
        lines = []
        for index, (prompt, sft, ppo) in enumerate(SAMPLES):
            scores = sorted(self.rng.normal(size=2).tolist(), reverse=index in (3, 7))
            lines.append(
                json.dumps(
                    {
                        "prompt": prompt,
                        "sft": sft,
                        "ppo": ppo,
                        "sftScore": scores[0],
                        "ppoScore": scores[1],
                    }
                )
            )
        paths.samples.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.end(
            Phase.EVALUATION,
            Outcome.COMPLETED,
            "the judge prefers the policy to SFT on 83.2% of 256 held-out prompts (95 % interval "
            "78.1% to 87.3%)",
            step=1,
            duration_seconds=5.6,
            metrics={
                "winRate": 0.832,
                "winRateLow": 0.781,
                "winRateHigh": 0.873,
                "klNats": 4.71,
                "rewardScore": 0.981,
                "sftRewardScore": -0.032,
                "entropyNatsPerToken": 2.02,
                "sftEntropyNatsPerToken": 2.91,
                "responseLengthTokens": 16.1,
                "sftResponseLengthTokens": 19.4,
                "distinct2": 0.541,
                "sftDistinct2": 0.688,
            },
        )

    def run_file(self, **status: Any) -> None:
        run = {
            "apiVersion": "rlhf.dev/v1alpha1",
            "kind": "RLHFRun",
            "metadata": {"name": self.name},
            "spec": self.spec,
            "status": {**self.status, **status},
        }
        self.workspace.run.write_text(json.dumps(run), encoding="utf-8")


def finished(root: Path) -> MadeUpRun:
    run = MadeUpRun(root)
    run.preparation()
    run.sft()
    run.reward_model()
    run.ppo()
    run.evaluation()
    run.run_file(outcome="Completed")
    return run


def stopped(root: Path) -> MadeUpRun:
    run = MadeUpRun(root, name="kl-breach")
    run.preparation()
    run.sft()
    run.reward_model()
    run.breach()
    message = (
        "KL was 24.6 nats per response at step 4, above guard.kl.ceilingNats=20 (limit 10): raise "
        "ppo.kl.coefficient or lower ppo.learningRate; exported the policy of step 2, the newest "
        "measured inside the limit"
    )
    run.run_file(outcome="Stopped", stop={"message": message, "phase": "PPO", "by": "Trainer"})
    return run


def gate_failed(root: Path) -> MadeUpRun:
    run = MadeUpRun(root, name="noisy-labels")
    run.preparation()
    run.sft()
    run.reward_model(best=0.551)
    run.run_file(outcome="GateFailed")
    return run


MAKERS: Mapping[str, Callable[[Path], MadeUpRun]] = {
    "finished": finished,
    "stopped": stopped,
    "gate-failed": gate_failed,
}


@pytest.fixture(params=list(MAKERS))
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> MadeUpRun:
    return MAKERS[request.param](tmp_path / "run")


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUpRun:
    return MadeUpRun(tmp_path / "run")


@pytest.fixture
def make() -> Mapping[str, Callable[[Path], MadeUpRun]]:
    return MAKERS
