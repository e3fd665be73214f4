"""The definition around the schema: names, printer columns, status subresource, immutability."""

from typing import Any

from rlhf_operator.api.crd.rules import IMMUTABLE, immutable, name_rules
from rlhf_operator.api.crd.schema import Schema, structural
from rlhf_operator.api.run import API_VERSION, KIND, MAXIMUM_NAME_LENGTH, NAME_PATTERN, RLHFRun
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_operator.api.status import RunStatus

PLURAL = "rlhfruns"
GROUP, _, VERSION = API_VERSION.partition("/")

COLUMNS = (
    ("Phase", "string", ".status.phase", "The phase that is due, or how the run ended."),
    ("Step", "integer", ".status.headline.step", "Completed updates of the newest phase."),
    ("KL", "number", ".status.headline.klNats", "KL per response to the SFT policy, in nats."),
    ("Reward", "number", ".status.headline.rewardScore", "Score of the reward model."),
    (
        "Entropy",
        "number",
        ".status.headline.entropyNatsPerToken",
        "Entropy of the policy, in nats per token.",
    ),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the run was created."),
)
"""Columns of `kubectl get`: name, type, path, description."""


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["rlhf"],
                "categories": ["all", "kubeflow"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "description": description}
            for name, kind, path, description in COLUMNS
        ],
        "schema": {"openAPIV3Schema": _schema()},
    }


def _schema() -> Schema:
    spec = structural(RLHFRunSpec)
    for name in IMMUTABLE:
        rules = spec["properties"][name].setdefault("x-kubernetes-validations", [])
        rules.append(immutable(name).rendered())
    fields = RLHFRun.model_fields
    spec["description"] = fields["spec"].description
    status = structural(RunStatus)
    status["description"] = fields["status"].description
    return {
        "type": "object",
        "description": RLHFRun.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": fields["api_version"].description},
            "kind": {"type": "string", "description": fields["kind"].description},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            rule.rendered() for rule in name_rules(MAXIMUM_NAME_LENGTH, NAME_PATTERN)
        ],
    }
