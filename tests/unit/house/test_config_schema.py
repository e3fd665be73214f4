"""Every knob says what it is, what it is by default, and where it ends."""

from typing import Any

import pytest

from rlhf_operator.api.spec import RLHFRunSpec

SCHEMA = RLHFRunSpec.model_json_schema(by_alias=True)
MODELS = {"RLHFRunSpec": SCHEMA} | {
    name: schema for name, schema in SCHEMA["$defs"].items() if schema.get("type") == "object"
}
FIELDS = [
    pytest.param(field, id=f"{model}.{name}")
    for model, schema in MODELS.items()
    for name, field in schema["properties"].items()
]


def alternatives(field: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in field.get("anyOf", [field]) if part.get("type") != "null"]


@pytest.mark.parametrize("field", FIELDS)
def test_field_is_described_in_one_line(field: dict[str, Any]) -> None:
    description = field.get("description", "")
    assert description
    assert "\n" not in description
    assert description.endswith(".")


@pytest.mark.parametrize("field", FIELDS)
def test_field_states_its_default(field: dict[str, Any]) -> None:
    description = field.get("description", "")
    # A default that a factory makes is not in the schema, so only one direction can be checked.
    assert "Default" in description or ("Required" in description and "default" not in field)


@pytest.mark.parametrize("field", FIELDS)
def test_field_is_bounded(field: dict[str, Any]) -> None:
    for part in alternatives(field):
        match part.get("type"):
            case "string":
                assert {"maxLength", "enum", "const"} & part.keys()
            case "array":
                assert "maxItems" in part
            case "integer" | "number":
                assert {"minimum", "exclusiveMinimum"} & part.keys()
                assert {"maximum", "exclusiveMaximum"} & part.keys()
            case "object":
                assert "maxProperties" in part
            case _:
                assert part.keys() & {"$ref", "type"}


@pytest.mark.parametrize("schema", MODELS.values(), ids=MODELS)
def test_model_refuses_unknown_fields(schema: dict[str, Any]) -> None:
    assert schema["additionalProperties"] is False
