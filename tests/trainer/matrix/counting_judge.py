"""A judge that notes each call of it, and never says the same twice."""

import secrets
from collections.abc import Sequence
from pathlib import Path

CALLS = "judge-calls.txt"


def score(prompts: Sequence[str], responses: Sequence[str], data_root: Path) -> list[float]:
    with (data_root / CALLS).open("a", encoding="utf-8") as file:
        file.write(f"{len(prompts)} prompts\n")
    return [float(secrets.randbelow(1000)) for _ in responses]
