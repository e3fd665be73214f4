"""What operator and command line read starts without torch, as seen in a new process."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "transformers", "deepspeed", "datasets", "matplotlib"}

PROGRAM = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    "module",
    [
        "rlhf_operator.api",
        "rlhf_operator.decide",
        "rlhf_trainer.config",
        "rlhf_trainer.contract",
        "rlhf_trainer.errors",
        "rlhf_trainer.guard",
    ],
)
def test_import_needs_no_torch(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True
    )
    assert HEAVY & set(json.loads(done.stdout)) == set()
