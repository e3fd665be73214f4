"""The definition: what is structural about it, and that every field says what it is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from generate_crds import FOLDER, text
from rlhf_operator.api import RLHFRun
from rlhf_operator.api.crd import definition
from rlhf_operator.api.crd.rules import BY_SCHEMA, IMMUTABLE, RULES
from rlhf_operator.api.crd.schema import structural
from rlhf_trainer.config.training import TrainingConfig

Schema = dict[str, Any]

SCHEMA: Schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every field below a schema."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}".strip("."), field
        yield from fields(field, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield f"{path}{suffix}".strip("."), schema[key]
            yield from fields(schema[key], f"{path}{suffix}")


FIELDS = dict(fields(SCHEMA))
NAMED = {
    path: field
    for path, field in FIELDS.items()
    if path.startswith(("spec", "status")) and not path.endswith(("[]", ".*"))
}


def test_generated_file_is_what_the_models_say() -> None:
    assert (FOLDER / "rlhf.dev_rlhfruns.yaml").read_text(encoding="utf-8") == text()
    assert text().startswith("# DO NOT EDIT")


def test_generated_folder_is_marked() -> None:
    attributes = Path(FOLDER.parent, ".gitattributes").read_text(encoding="utf-8")
    assert "crds/** linguist-generated" in attributes


def test_schema_uses_nothing_that_structural_schemas_lack() -> None:
    refused = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "nullable", "title", "const"}
    refused |= {"additionalItems", "uniqueItems", "prefixItems", "propertyNames"}
    assert [path for path, field in FIELDS.items() if refused & field.keys()] == []
    both = [
        path
        for path, field in FIELDS.items()
        if {"properties", "additionalProperties"} <= field.keys()
    ]
    assert both == []


@pytest.mark.parametrize("path", NAMED)
def test_field_is_described_in_one_line(path: str) -> None:
    description = NAMED[path].get("description", "")
    assert description
    assert "\n" not in description


@pytest.mark.parametrize("path", [path for path in NAMED if path.startswith("spec.")])
def test_field_of_the_spec_states_its_default(path: str) -> None:
    description = NAMED[path]["description"]
    assert "Default" in description or "Required" in description


BARE_DEFAULT = re.compile(r"Default: [-+\d.e]+( [%\w]+)?\.($| )")
"""A number without a word about where it comes from."""

UNITLESS = re.compile(
    r"([cC]oefficient|Factor|[fF]raction|temperature|Norm|Range|Beta[12]|Epsilon|[dD]ecay|Clip|Penalty|Lambda|dropout"
    r"|discount|seed|Rate|Accuracy|atLeast|Size|[nN]odes|Limit|Last|patience|Stage|Node|Count|rank|alpha)$"
)
"""Names of numbers that count things or have no unit."""

UNITS = re.compile(
    r"(Nats|NatsPerToken|Tokens|Steps|steps|epochs|Episodes|Bytes|PerMicroBatch)$|Seconds"
)


@pytest.mark.parametrize("path", [path for path in FIELDS if path.startswith("spec.")])
def test_number_of_the_spec_has_a_unit_in_its_name_and_a_source_of_its_default(path: str) -> None:
    field, name = FIELDS[path], path.rpartition(".")[2]
    if field.get("type") not in ("integer", "number"):
        return
    assert UNITS.search(name) or UNITLESS.search(name), name
    assert not BARE_DEFAULT.search(field["description"])


@pytest.mark.parametrize("path", FIELDS)
def test_lists_and_texts_are_bounded(path: str) -> None:
    field = FIELDS[path]
    if path in ("apiVersion", "kind", "metadata"):
        return
    match field.get("type"):
        case "string":
            assert {"maxLength", "enum", "format"} & field.keys()
        case "array":
            assert "maxItems" in field
        case "object":
            assert {"properties", "maxProperties"} & field.keys()
        case "integer" | "number" if path.startswith("spec"):
            assert {"minimum", "maximum"} <= field.keys()
        case _:
            assert field.get("type") or field.get("x-kubernetes-preserve-unknown-fields")


def test_every_rule_belongs_to_a_validator() -> None:
    names = {
        name for model in models(RLHFRun) for name in model.__pydantic_decorators__.model_validators
    }
    assert names == RULES.keys() | BY_SCHEMA


def test_all_of_the_training_half_but_the_guard_is_immutable() -> None:
    training = {str(info.alias) for info in TrainingConfig.model_fields.values()}
    assert set(IMMUTABLE) == training - {"guard"} | {"workspace"}


class Kinds(BaseModel):
    choice: int | str


def test_union_is_no_structural_schema() -> None:
    with pytest.raises(AssertionError):
        structural(Kinds)


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for info in model.model_fields.values():
        yield from (part for inner in inner_models(info.annotation) for part in models(inner))


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from inner_models(argument)
