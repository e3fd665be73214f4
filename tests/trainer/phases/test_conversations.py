"""Chat data through real phases: messages in, the tokenizer's own template around them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import Ended, Launching
from one_start import Case, run_in_one_start
from toy import NEUTRAL, PLEASANT, UNPLEASANT, make_run, training_config
from transformers import AutoTokenizer

from rlhf_trainer.contract import Phase
from rlhf_trainer.data.prepared import PreparedData

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }} <eos> "
    "{% else %}<bos> {{ m.content }} and {% endif %}{% endfor %}"
)


def message(role: str, rng: np.random.Generator, among: tuple[str, ...]) -> dict[str, str]:
    return {"role": role, "content": " ".join(rng.choice(among, 3))}


def converse(root: Path) -> None:
    """Rewrite the toy run's data as conversations of one and two turns."""
    rng = np.random.default_rng(1)

    def prompt() -> list[dict[str, str]]:
        turns = [message("user", rng, NEUTRAL)]
        if rng.random() < 0.5:
            turns += [message("assistant", rng, PLEASANT), message("user", rng, NEUTRAL)]
        return turns

    def demonstration() -> dict[str, Any]:
        return {"messages": [*prompt(), message("assistant", rng, PLEASANT)]}

    def comparison() -> dict[str, Any]:
        chosen, rejected = ([message("assistant", rng, among)] for among in (PLEASANT, UNPLEASANT))
        return {"prompt": prompt(), "chosen": chosen, "rejected": rejected}

    makers = {
        "demonstrations": demonstration,
        "comparisons": comparison,
        "prompts": lambda: {"prompt": prompt()},
    }
    for name, make in makers.items():
        lines = "".join(json.dumps(make()) + "\n" for _ in range(64))
        (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with a chat template, and conversations."""
    root = make_run(tmp_path_factory.mktemp("chat"))
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "base")
    converse(root)
    return root


@pytest.fixture(scope="module")
def chat(root: Path) -> dict[Phase, Ended]:
    """Every phase of a run on conversations."""
    place = Launching(root, root / "workspace")
    ends = run_in_one_start([Case(place, phase, training_config()) for phase in Phase], root)
    return dict(zip(Phase, ends, strict=True))


def test_every_phase_trains_on_conversations(chat: dict[Phase, Ended]) -> None:
    for end in chat.values():
        assert end.code == 0, end.output[-3000:]
    metrics = chat[Phase.SFT].result.metrics
    assert metrics["validationLossNatsPerToken"] < metrics["initialValidationLossNatsPerToken"]


def test_only_what_the_assistant_says_is_trained(root: Path, chat: dict[Phase, Ended]) -> None:
    data = PreparedData(chat[Phase.PREPARATION].paths.data).demonstrations()
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    for row in range(len(data)):
        trained = tokenizer.decode(data[row].tokens[data[row].response_mask]).split()
        assert set(trained) <= {*PLEASANT, "<eos>"}
        assert trained[-1] == "<eos>"
        text = tokenizer.decode(data[row].tokens).split()
        assert "<bos>" in text
        assert len(trained) % 4 == 0
