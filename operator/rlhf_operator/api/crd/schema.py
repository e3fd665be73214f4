"""From a model to a structural schema: the subset of OpenAPI that the API server takes.

No references, no unions, no `null`: what is optional may be left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from rlhf_operator.api.crd.rules import BY_SCHEMA, RULES
from rlhf_trainer.config.deepspeed import MANAGED_KEYS

Schema = dict[str, Any]
Model = type[BaseModel]

PRESERVE = "x-kubernetes-preserve-unknown-fields"

LIST_KEYS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RunStatus", "conditions"): ("type",),
    ("PodTemplate", "env"): ("name",),
    ("PodTemplate", "volumes"): ("name",),
    ("PodTemplate", "volumeMounts"): ("mountPath",),
    ("PodTemplate", "imagePullSecrets"): ("name",),
}
"""Lists whose entries have a name of their own.

The status' phases do, too, but only the operator writes them, and always all of them. With keys the
API server would note who set each of their fields, which is a quarter of the object and of what it
costs to write it.
"""

SETS = frozenset({("KLGuardConfig", "enforcedBy")})
"""Lists whose entries differ."""

COPIED = ("type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "format")


def structural(model: Model) -> Schema:
    """Return the structural schema of a model."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(document.pop("$defs", {}), dict(_models_of(model))).convert(document)


class _Converter:
    def __init__(self, definitions: Schema, models: Mapping[str, Model]) -> None:
        self._definitions, self._models = definitions, models

    def convert(self, node: Schema) -> Schema:
        """Return one node, and all below it."""
        node = self._resolved(node)
        schema: Schema = {}
        if description := " ".join(node.get("description", "").split()):
            schema["description"] = description
        schema |= {key: node[key] for key in COPIED if key in node}
        schema |= _numeric(node)
        match node.get("type"):
            case "object":
                schema |= self._object(node)
            case "array":
                schema["items"] = self.convert(node["items"])
            case None if "enum" not in node:
                schema[PRESERVE] = True
            case _:
                pass
        if node.get("default") is not None:
            schema["default"] = _present(node["default"])
        return schema

    def _resolved(self, node: Schema) -> Schema:
        """Follow references and leave out that a value may be null; what stands beside wins."""
        beside = {key: value for key, value in node.items() if key not in ("anyOf", "$ref")}
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return {**self._resolved(self._definitions[name]), **beside}
        if "anyOf" in node:
            kinds = [part for part in node["anyOf"] if part.get("type") != "null"]
            assert len(kinds) == 1, node  # noqa: S101 -- our own models have no unions
            return {**self._resolved(kinds[0]), **beside}
        return node

    def _object(self, node: Schema) -> Schema:
        if "properties" not in node:
            return self._map(node)
        model = self._models[node["title"]]
        schema: Schema = {"properties": {}}
        if required := node.get("required"):
            schema["required"] = required
        for name, field in node["properties"].items():
            converted = self.convert(field)
            schema["properties"][name] = {**converted, **_list_kind(model, name)}
        for name, computed in model.model_computed_fields.items():
            inner = structural(_model_in(computed.return_type))
            inner["description"] = " ".join((computed.description or "").split())
            schema["properties"][computed.alias or name] = inner
        if rules := [rule.rendered() for name in _checks(model) for rule in RULES.get(name, ())]:
            schema["x-kubernetes-validations"] = rules
        return schema

    def _map(self, node: Schema) -> Schema:
        values = self.convert(node.get("additionalProperties") or {})
        size = {"maxProperties": node["maxProperties"]}
        schema = {**size, "additionalProperties": values}
        if PRESERVE in values:
            # Keys that are declared nowhere, and so hidden from CEL. The values are preserved one
            # by one: were the map as a whole, `self == oldSelf` would not see a key renamed.
            taken = [{"required": [key]} for key in sorted(MANAGED_KEYS)]
            schema["not"] = {"anyOf": taken}
        return schema


def _numeric(node: Schema) -> Schema:
    schema: Schema = {"format": "int64"} if node.get("type") == "integer" else {}
    for key, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if key in node:
            schema[key] = node[key]
        # A bound that is excluded stands in the place of the other one, with a flag.
        if exclusive in node:
            schema |= {key: node[exclusive], exclusive: True}
    return schema


def _present(default: Any) -> Any:  # noqa: ANN401 -- JSON
    """Return a default without what is unset.

    It is whole: the API server holds it against CEL before it fills in what is left out.
    """
    if not isinstance(default, dict):
        return default
    return {name: _present(value) for name, value in default.items() if value is not None}


def _list_kind(model: Model, name: str) -> Schema:
    """Return how entries of a list are told apart."""
    if keys := LIST_KEYS.get((model.__name__, name)):
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    if (model.__name__, name) in SETS:
        return {"x-kubernetes-list-type": "set"}
    return {}


def _checks(model: Model) -> Iterator[str]:
    """Yield the names of a model's validators; one without a rule is a bug of ours."""
    for name in model.__pydantic_decorators__.model_validators:
        assert name in RULES or name in BY_SCHEMA, name  # noqa: S101 -- our own table
        yield name


def _models_of(model: Model) -> Iterator[tuple[str, Model]]:
    yield model.__name__, model
    for info in model.model_fields.values():
        for inner in _models_in(info.annotation):
            yield from _models_of(inner)


def _models_in(annotation: object) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _model_in(annotation: object) -> Model:
    return next(_models_in(annotation))
