"""The chart's values: all are read, nothing else is, each says what it does, none is left open."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from chart_values import Values
from generate_chart import CHART, schema, values_text
from rlhf_operator.settings import _parser
from rlhf_trainer.contract import METRICS_PORT

TEMPLATES = {path.name: path.read_text("utf-8") for path in (CHART / "templates").iterdir()}
READ = set(re.findall(r"\.Values\.([\w.]+)", "\n".join(TEMPLATES.values())))

NOT_SET = {"metrics_port", "lease_namespace", "lease_name", "pools", "image", "namespaces"}
"""Options that are no value of the same name: pods always serve on the same port, and the others
come from the release or under the name that people know them by.
"""


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for field in model.model_fields.values():
        kind, path = field.annotation, f"{prefix}{field.alias}"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from paths(kind, f"{path}.")
        else:
            yield path


def nodes(node: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from nodes(child, f"{path}/{key}")


PATHS = list(paths(Values))


@pytest.mark.parametrize("path", PATHS)
def test_value_is_read_by_a_template(path: str) -> None:
    assert path in READ


def test_templates_read_no_other_value() -> None:
    assert sorted(READ - set(PATHS)) == []


def test_every_value_has_a_comment() -> None:
    text = values_text()
    keys = re.findall(r"^( *)(\w+):", text, re.MULTILINE)
    commented = re.findall(r"^ *# .*\n( *)(\w+):", text, re.MULTILINE)
    assert commented == keys
    assert len(keys) > len(PATHS)


def test_values_file_holds_the_defaults() -> None:
    loaded = YAML(typ="safe", pure=True).load(values_text())
    assert Values.model_validate(loaded) == Values()


def test_schema_leaves_no_object_of_ours_open() -> None:
    ours = [(path, one) for path, one in nodes(schema()) if one.get("properties")]
    assert len(ours) > len({path.partition(".")[0] for path in PATHS if "." in path})
    assert [path for path, one in ours if one.get("additionalProperties") is not False] == []


def test_schema_requires_nothing_and_takes_pools_without_a_name() -> None:
    tree = schema()
    assert "required" not in tree
    assert "name" not in tree["$defs"]["Pool"]["properties"]
    assert tree["$defs"]["Pool"]["additionalProperties"] is False


def test_every_option_of_the_process_can_be_set() -> None:
    options = {action.dest for action in _parser()._actions} - {"help"}
    unreachable = options - set(Values.model_fields)
    assert unreachable == NOT_SET - set(Values.model_fields)
    for option in options - {"metrics_port"}:
        flag = "namespace" if option == "namespaces" else option.replace("_", "-")
        assert f"--{flag}=" in TEMPLATES["deployment.yaml"]


def test_policies_name_the_port_that_trainers_serve() -> None:
    assert f"port: {METRICS_PORT}" in TEMPLATES["network.yaml"]


def test_definition_is_the_one_of_crds_but_for_staying() -> None:
    (brought,) = (CHART / "definitions").iterdir()
    plain = (CHART.parents[1] / "crds" / brought.name).read_text("utf-8")
    kept = "  annotations:\n    helm.sh/resource-policy: keep\n"
    text = brought.read_text("utf-8")
    assert kept in text
    assert text.replace(kept, "") == plain


def test_notes_name_the_next_command() -> None:
    notes = TEMPLATES["NOTES.txt"]
    assert "kubectl apply -n" in notes
    assert "kubectl rollout status deployment/" in notes
    for path in re.findall(r"(?:examples|crds|charts)/[\w./-]+", notes):
        assert Path(CHART.parents[1] / path).exists()
