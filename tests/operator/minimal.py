"""The smallest run, and how to change it."""

import copy
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

NAMESPACE = "api-rules"

MINIMAL: Json = {
    "apiVersion": "rlhf.dev/v1alpha1",
    "kind": "RLHFRun",
    "metadata": {"name": "demo", "namespace": NAMESPACE},
    "spec": {
        "model": {"source": "base"},
        "data": {
            "demonstrations": {"path": "demonstrations.jsonl"},
            "comparisons": {"path": "comparisons.jsonl"},
            "prompts": {"path": "prompts.jsonl"},
        },
    },
}


def changed(changes: Mapping[str, Any], run: Json = MINIMAL) -> Json:
    """Return a run with values at dotted paths."""
    result = copy.deepcopy(run)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return result
