"""What a PPO benchmark starts from, the same for every side: weights, prompts, response lengths.

`python ppo_start.py --case a FOLDER` fills a folder with random weights as safetensors, data, and
what our Preparation leaves. Random weights end no response by themselves, so lengths are prescribed
(see `response_lengths`); each side is made to sample responses of exactly these.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

EOS, PAD, BOS, FIRST_WORD = range(4)
"""EOS is the first token, so that a draw of 0 is always an EOS: see `ppo_ours`."""
SHORTEST_PROMPT, LONGEST_PROMPT = 8, 16
SHORTEST_RESPONSE = 4
LORA_RANK, LORA_ALPHA, LORA_TARGETS = 8, 16, ["q_proj", "v_proj"]
KL_COEFFICIENT, LEARNING_RATE = 0.05, 1e-5
TOLD = "start.json"


@dataclass(frozen=True)
class Case:
    """A model and how much of it one PPO step asks for."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int
    prompts: int
    response_tokens: int
    epochs: int
    ragged: bool = False
    lora: bool = False

    @property
    def title(self) -> str:
        """What it is, in words."""
        shortest = f"{SHORTEST_RESPONSE} to " if self.ragged else ""
        return (
            f"{self.hidden} x {self.layers} with a vocabulary of {self.vocabulary:,}"
            f"{' and LoRA' if self.lora else ''}: {self.prompts} responses of "
            f"{shortest}{self.response_tokens} tokens, "
            f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        )


CASES = {
    "a": Case(256, 672, 4, 4, 4096, 64, 32, 4),
    "b": Case(256, 672, 4, 4, 4096, 64, 32, 4, ragged=True),
    "c": Case(768, 2048, 12, 12, 32_000, 16, 32, 1),
    "d": Case(256, 672, 4, 4, 4096, 64, 32, 4, lora=True),
    "toy": Case(32, 64, 2, 2, 256, 4, 8, 2, ragged=True),
    "toy-lora": Case(32, 64, 2, 2, 256, 4, 8, 2, lora=True),
}


def prompts_of(case: Case) -> list[list[int]]:
    """Return the prompts, BOS included; one of them is the longest."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(SHORTEST_PROMPT, LONGEST_PROMPT + 1, case.prompts)
    lengths[0] = LONGEST_PROMPT
    return [
        [BOS, *rng.integers(FIRST_WORD, case.vocabulary, length - 1).tolist()] for length in lengths
    ]


def response_lengths(case: Case) -> list[int]:
    """Return how many tokens the responses of a step have, the EOS of shorter ones included.

    Uniform if ragged, and one of them is the longest: a batch takes as many steps to decode on
    every side. Responses of the full length have no EOS, as if cut.
    """
    if not case.ragged:
        return [case.response_tokens] * case.prompts
    rng = np.random.default_rng(2)
    lengths = rng.integers(SHORTEST_RESPONSE, case.response_tokens, case.prompts)
    lengths[0] = case.response_tokens
    return [int(length) for length in lengths]


def start_config(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - sections of the configuration
    """Return the trainer's configuration of what begins here; `changes` replace whole sections."""
    files = {name: {"path": f"{name}.jsonl"} for name in ("demonstrations", "comparisons")}
    held_out = {name: {"path": f"held-out-{name}.jsonl"} for name in (*files, "prompts")}
    return {
        "model": {"source": "sft"},
        "data": {**files, "prompts": {"path": "prompts.jsonl"}, "heldOut": held_out},
        "sft": {"from": {"path": "sft"}},
        "rewardModel": {"from": {"path": "reward"}},
        "evaluation": {"promptCount": 2},
        "checkpoint": {"everySteps": 1_000_000},
        **changes,
    }


def make_start(case: Case, folder: Path) -> None:
    """Fill a folder with `sft`, `reward`, the data and a workspace in which PPO can begin."""
    from ppo_workspace import prepare, write_models  # noqa: PLC0415 - the peer's side has no trainer

    folder.mkdir(parents=True, exist_ok=True)
    prompts = prompts_of(case)
    write_models(case, folder)
    texts = [{"prompt": _text(prompt[1:])} for prompt in prompts]
    _write_rows(folder / "prompts.jsonl", texts)
    _write_rows(folder / "held-out-prompts.jsonl", texts[:2])
    rng = np.random.default_rng(3)

    def sentence(tokens: int) -> str:
        return _text(rng.integers(FIRST_WORD, case.vocabulary, tokens).tolist())

    for name, count in (("", case.prompts), ("held-out-", 2)):
        rows = range(count)
        lengths = rng.integers(SHORTEST_RESPONSE, 2 * case.response_tokens, (2, count))
        _write_rows(
            folder / f"{name}demonstrations.jsonl",
            [{"prompt": sentence(8), "completion": sentence(lengths[0, row])} for row in rows],
        )
        _write_rows(
            folder / f"{name}comparisons.jsonl",
            [
                {"prompt": sentence(8)}
                | {
                    which: sentence(lengths[index, row])
                    for index, which in enumerate(("chosen", "rejected"))
                }
                for row in rows
            ],
        )
    told = {"case": asdict(case), "prompts": prompts, "responseLengths": response_lengths(case)}
    told |= prepare(folder)
    (folder / TOLD).write_text(json.dumps(told), encoding="utf-8")


def _text(words: Sequence[int]) -> str:
    return " ".join(f"w{word}" for word in words)


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main(argv: Sequence[str]) -> None:
    """Make a start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    make_start(CASES[arguments.case], arguments.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
