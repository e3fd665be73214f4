"""Llama models by their configurations, counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.planning.architecture import Architecture, Linear

PLANS = Path(__file__).resolve().parents[4] / "examples" / "plans"


@pytest.fixture(scope="session")
def llama() -> Callable[[str], Architecture]:
    """Return an example's sizes, without torch."""

    def sizes(name: str) -> Architecture:
        config = json.loads((PLANS / name / "config.json").read_text(encoding="utf-8"))
        return llama_of(config)

    return sizes


@pytest.fixture(scope="session")
def llama_sizes() -> Callable[[dict[str, Any]], Architecture]:
    """Return the sizes of any Llama's configuration."""
    return llama_of


def llama_of(config: dict[str, Any]) -> Architecture:
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    inner, vocabulary = config["intermediate_size"], config["vocab_size"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    size = hidden // heads
    linears = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, groups * size),
        "v_proj": (hidden, groups * size),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    layer = [inputs * outputs for inputs, outputs in linears.values()] + [hidden, hidden]
    trunk = [vocabulary * hidden, *layer * layers, hidden]
    return Architecture(
        family="llama",
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=groups,
        head_size=size,
        intermediate=inner,
        vocabulary=vocabulary,
        sizes=(*trunk, vocabulary * hidden),
        classifier_parameters=sum(trunk) + hidden,
        linears=tuple(
            Linear(f"model.layers.{index}.{name}", *shape)
            for index in range(layers)
            for name, shape in linears.items()
        ),
    )


@pytest.fixture(scope="session")
def configured() -> Callable[..., TrainingConfig]:
    """Build a configuration; sections are merged over one with ZeRO 3 and checkpointing."""

    def build(**sections: Any) -> TrainingConfig:
        model = {"source": "base", "gradientCheckpointing": True} | sections.pop("model", {})
        data = {name: {"path": name} for name in ("demonstrations", "comparisons", "prompts")}
        tree = {"model": model, "data": data, "deepspeed": {"zeroStage": 3}} | sections
        return TrainingConfig.model_validate(tree)

    return build


@pytest.fixture(scope="session")
def placed() -> Callable[..., dict[Phase, Place]]:
    """Build the places of all phases, alike: GPUs of so many GiB."""

    def build(gib: float | None = 80, nodes: int = 1, gpus: int = 8) -> dict[Phase, Place]:
        memory = None if gib is None else int(gib * 2**30)
        place = Place(
            pool="a100-80gb",
            nodes=nodes,
            processes=gpus,
            is_gpu=True,
            memory_bytes=memory,
            maximum_processes=8,
        )
        return {phase: place for phase in Phase if phase is not Phase.PREPARATION}

    return build
