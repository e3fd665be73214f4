"""What the plan says of small models, beside what phases that really run hold of them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from launching import Launching
from toy import NEUTRAL, make_run, merge, save_base, training_config
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.models.counting import architecture_of
from rlhf_trainer.planning import hardware, plan
from rlhf_trainer.planning.activations import inputs_bytes, probabilities_bytes
from rlhf_trainer.planning.moments import at_rest, held_as, pass_bytes
from rlhf_trainer.planning.networks import Models, Network, engines, networks_of
from rlhf_trainer.planning.shapes import Lengths, Update, decoding_of, update_of
from rlhf_trainer.planning.sharding import Sharding

PROGRAM = Path(__file__).with_name("measured_phases.py")
MARK = "measured: "

PROGRAM_WORDS = 3
"""What a launcher's command begins with; the phase's own command line follows."""

SIZES: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Small, and yet tensors are most of what is held."""

MODELS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, intermediate_size=352, num_key_value_heads=4),
    "grouped": LlamaConfig(**SIZES, intermediate_size=352, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SIZES, intermediate_size=352, num_key_value_heads=2),
    "gpt2": GPT2Config(**SIZES),
}

SETTINGS: dict[str, Any] = {
    "sft": {"maximumSteps": 2, "batchSize": 16, "tokensPerMicroBatch": 84},
    "rewardModel": {"maximumSteps": 2, "batchSize": 16, "tokensPerMicroBatch": 80},
    "ppo": {
        "totalEpisodes": 16,
        "rolloutBatchSize": 16,
        "minibatchSize": 16,
        "epochs": 2,
        "maximumResponseTokens": 12,
        "tokensPerMicroBatch": 45,
    },
    "checkpoint": {"everySteps": 100},
}
"""Two updates of each network: in the second there are states of the optimiser."""

TEXT_WORDS, NUM_TEXTS, NUM_COMPARISONS = 12, 44, 40


def sharded(stage: int) -> dict[str, Any]:
    """A ZeRO stage with a bucket that is small beside these models, as DeepSpeed's is by others."""
    zero = {"reduce_bucket_size": 20_000}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    return {"zeroStage": stage, "overrides": {"zero_optimization": zero}}


@dataclass(frozen=True)
class Shape:
    """A configuration whose phases are measured."""

    name: str
    model: str
    changes: dict[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = (Phase.PPO,)
    """With PPO alone, it starts from models that are there; else from those of this run."""

    @property
    def config(self) -> dict[str, Any]:
        starts: dict[str, Any] = {"model": {"source": self.model}}
        if self.phases == (Phase.PPO,):
            starts |= {
                "sft": {"from": {"path": self.model}},
                "rewardModel": {"from": {"path": f"{self.model}-scores"}},
            }
        return training_config(**merge(merge(SETTINGS, starts), self.changes))


LORA = {"lora": {"rank": 8}}
TRAINED = (Phase.SFT, Phase.REWARD_MODEL, Phase.PPO)

SHAPES: dict[int, tuple[Shape, ...]] = {
    1: (
        Shape("Llama, no ZeRO", "llama", phases=TRAINED),
        Shape(
            "grouped heads, checkpointing, shared trunk",
            "grouped",
            {"model": {"gradientCheckpointing": True}, "ppo": {"critic": "SharedTrunk"}},
        ),
        Shape("GPT-2, no ZeRO", "gpt2"),
        Shape(
            "Llama, bfloat16",
            "llama",
            {"model": {"dtype": "BFloat16"}, "deepspeed": sharded(2)},
        ),
    ),
    2: (
        Shape("Llama, ZeRO 2", "llama", {"deepspeed": sharded(2)}),
        Shape("Llama, ZeRO 3", "llama", {"deepspeed": sharded(3)}),
        Shape("Qwen2, LoRA, ZeRO 3", "qwen2", {"model": LORA, "deepspeed": sharded(3)}, TRAINED),
    ),
}
"""By the number of ranks."""


@dataclass(frozen=True)
class Pair:
    """One number of a phase."""

    shape: str
    ranks: int
    phase: Phase
    what: str
    planned: float
    measured: float

    @property
    def ratio(self) -> float:
        return self.planned / self.measured


def make_models(root: Path) -> Path:
    """Fill `root` with the toy's data, and models with reward models of the same sizes."""
    make_run(root)
    _cut_data(root)
    for name, config in MODELS.items():
        save_base(root / name, config)
        one_label = type(config).from_dict(
            config.to_dict() | {"num_labels": 1, "id2label": {"0": "LABEL_0"}}
        )
        torch.manual_seed(0)
        classifier = AutoModelForSequenceClassification.from_config(one_label)
        classifier.save_pretrained(root / f"{name}-scores")
        for file in (root / name).glob("token*"):
            shutil.copy(file, root / f"{name}-scores")
    return root


def _cut_data(root: Path) -> None:
    """Leave what fills a few micro-batches; of demonstrations every token is learned."""
    words = np.random.default_rng(0).choice(NEUTRAL, (NUM_TEXTS, TEXT_WORDS))
    texts = [json.dumps({"text": " ".join(row)}) for row in words]
    comparisons = (root / "comparisons.jsonl").read_text(encoding="utf-8").splitlines()
    for name, lines in (("demonstrations", texts), ("comparisons", comparisons[:NUM_COMPARISONS])):
        text = "".join(f"{line}\n" for line in lines)
        (root / f"{name}.jsonl").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Case:
    """A phase of a shape, and the command line that runs it."""

    shape: Shape
    ranks: int
    phase: Phase
    argv: list[str]


def measure(data_root: Path, folder: Path) -> list[Pair]:
    """Run all shapes; return each number as planned and as measured."""
    first = Launching(data_root, folder / "run")
    prepared, paths = first.command(Phase.PREPARATION, training_config())
    paths.root.parent.mkdir(parents=True)  # so that others can be beside it
    cases = [case for ranks in SHAPES for case in _cases(first, ranks)]
    argvs = {ranks: [case.argv for case in cases if case.ranks == ranks] for ranks in SHAPES}
    argvs[min(argvs)].insert(0, prepared[PROGRAM_WORDS:])
    file = folder / "cases.json"
    file.write_text(json.dumps(argvs), encoding="utf-8")
    measured = [
        json.loads(line.partition(MARK)[2]) for line in _output(file).splitlines() if MARK in line
    ]
    for found in measured:
        assert found["outcome"] == "Completed", found["message"]
    lengths = _lengths(PreparedData(paths.data))
    return [
        Pair(case.shape.name, case.ranks, case.phase, what, planned, found[what])
        for case, found in zip(cases, measured[1:], strict=True)
        for what, planned in _planned(case.shape, case.phase, case.ranks, data_root, lengths)
    ]


def _cases(first: Launching, ranks: int) -> Iterator[_Case]:
    for shape in SHAPES[ranks]:
        place = replace(first.beside(Phase.SFT), processes=ranks)
        for phase in shape.phases:
            argv, _ = place.command(phase, shape.config)
            yield _Case(shape, ranks, phase, argv[PROGRAM_WORDS:])


def _output(cases: Path) -> str:
    """Run the program that measures; return what it wrote."""
    known = [str(PROGRAM.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(cases)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(known)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def _lengths(data: PreparedData) -> Lengths:
    return Lengths(
        int(data.demonstrations().lengths.max()),
        int(data.pairs().lengths.max()),
        int(data.prompts().lengths.max()),
    )


@cache
def _models(data_root: Path, name: str, *, own_reward: bool) -> Models:
    architecture = architecture_of(AutoConfig.from_pretrained(data_root / name))
    assert architecture is not None
    return Models(architecture, architecture, has_own_reward=own_reward)


def _planned(
    shape: Shape, phase: Phase, ranks: int, data_root: Path, lengths: Lengths
) -> Iterator[tuple[str, float]]:
    config = TrainingConfig.model_validate(shape.config)
    models = _models(data_root, shape.model, own_reward=False)
    networks = networks_of(phase, config, models)
    width = plan.width_of(config.model, is_gpu=False)
    sharding = Sharding.of(config.deepspeed, ranks=ranks, width=width, is_gpu=False)
    update = update_of(phase, config, lengths, ranks, is_gpu=False)
    for name, network in zip(("policy", "critic"), engines(networks), strict=False):
        yield f"{name}.weights", sharding.weights(network.parameters, 0)
        yield f"{name}.gradients", width * network.trained
        yield f"{name}.optimizer", sharding.optimizer(network.trained)
        yield f"{name}.activations", _kept(network, config, update, width)
    if phase is Phase.PPO:
        batch = decoding_of(phase, config, lengths, ranks)
        per_token = width * models.policy.cache_elements_per_token
        yield "kvCache", batch.rows * (batch.length - 1) * per_token
        gathered = sharding.whole(networks[0 if config.model.lora else 1].parameters, 0)
        yield "between steps", at_rest(networks, sharding, 0).total + gathered
    if ranks == 1:
        yield from _peaks(config, phase, models, ranks, lengths)


def _kept(network: Network, config: TrainingConfig, update: Update, width: int) -> float:
    """Return what autograd keeps of the whole loss: of layers their inputs, if recomputed."""
    of = network.architecture
    held = held_as(plan.settings_of(config, network), of, width)
    probabilities = probabilities_bytes(of, update.read) if network.has_vocabulary else 0
    if held.recomputed:
        inputs = inputs_bytes(of, update.tokens, update.read, held)
        return network.forwards * inputs + probabilities
    return pass_bytes(network, update, held) + probabilities


def _peaks(
    config: TrainingConfig, phase: Phase, models: Models, ranks: int, lengths: Lengths
) -> Iterator[tuple[str, float]]:
    places = {each: Place(processes=ranks) for each in Phase}
    made = plan.make_plan(config, models, places, lengths)
    (of_phase,) = (each for each in made.phases if each.phase is phase)
    groups: dict[str, list[float]] = {}
    for moment in of_phase.moments:
        stage = _stage(moment.name)
        if stage:
            tensors = moment.held.total - hardware.CPU_RUNTIME_BYTES
            groups.setdefault(f"peak: {stage}", []).append(tensors)
    yield from ((stage, max(totals)) for stage, totals in groups.items())


def _stage(moment: str) -> str | None:
    """Return the measured stage that a planned moment belongs to."""
    if moment.startswith("loading"):
        return None
    if moment.startswith("measuring"):
        return "measuring"
    if "rollout" in moment:
        return "rollout"
    return "update of the critic" if "critic" in moment else "update of the policy"


def worst(pairs: Sequence[Pair]) -> Pair:
    """Return the number that the plan is farthest from."""
    return max(pairs, key=lambda pair: abs(pair.ratio - 1))
