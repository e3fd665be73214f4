"""Small data files, and a configuration that names some."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# a deadline measures the load of the machine, not the code
settings.register_profile("data", deadline=None)
settings.load_profile("data")


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a JSONL file below tmp_path, and return its path."""

    def write(name: str, *rows: object) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


ANNOTATIONS = [
    {"annotator": "ann", "choice": "chosen"},
    {"annotator": "bob", "choice": "chosen"},
]


@pytest.fixture
def document(jsonl: Callable[..., Path]) -> dict[str, Any]:
    """Return a configuration whose data is sound, 40 records in each set."""
    jsonl("d.jsonl", *[{"text": f"text {number}"} for number in range(40)])
    jsonl(
        "c.jsonl",
        *[
            {
                "prompt": f"p {number}",
                "chosen": "good",
                "rejected": "bad",
                "annotations": ANNOTATIONS,
            }
            for number in range(40)
        ],
    )
    jsonl("p.jsonl", *[{"prompt": f"p {number}", "topic": "any"} for number in range(40)])
    return {
        "model": {"source": "m"},
        "data": {
            "demonstrations": {"path": "d.jsonl"},
            "comparisons": {
                "path": "c.jsonl",
                "minimumAgreement": {"statistic": "PercentAgreement", "atLeast": 0.8},
            },
            "prompts": {"path": "p.jsonl"},
            "heldOut": {"fraction": 0.25},
        },
        "evaluation": {"promptCount": 4},
    }
