"""What the models say about a field: its bounds, choices, default and neighbours, in words.

Messages and the starter manifest are made from it, so that nothing about a field is written twice.
"""

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Model = type[BaseModel]


@dataclass(frozen=True)
class Field:
    """A field as its users know it."""

    name: str
    """Spelling in YAML."""
    info: FieldInfo

    @property
    def model(self) -> Model | None:
        """Model of its value, for a field with fields of its own."""
        return next((kind for kind in self.kinds if issubclass(kind, BaseModel)), None)

    @property
    def entry(self) -> Model | None:
        """Model of its entries, for a list of things with fields of their own."""
        for part in (self.info.annotation, *get_args(self.info.annotation)):
            for kind in get_args(part) if get_origin(part) is tuple else ():
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    return kind
        return None

    @property
    def kinds(self) -> tuple[type, ...]:
        """Classes that its value may have."""
        return tuple(_kinds(self.info.annotation))

    @property
    def choices(self) -> tuple[str, ...]:
        """Values of a closed choice."""
        if get_origin(self.info.annotation) is Literal:
            return get_args(self.info.annotation)
        enum = next((kind for kind in self.kinds if issubclass(kind, StrEnum)), None)
        return tuple(member.value for member in enum) if enum else ()

    @property
    def default(self) -> Any:  # noqa: ANN401 -- a default may be anything
        """Default value, or None."""
        value = self.info.get_default(call_default_factory=True, validated_data={})
        return None if value is PydanticUndefined else value

    @property
    def document(self) -> str:
        """Its documentation."""
        return " ".join((self.info.description or "").split())

    def wanted(self) -> str:
        """Return what a value must be, such as `a number above 0, below 1 (default 0.2)`."""
        text = " ".join(part for part in (self._kind(), self._bounds()) if part)
        if isinstance(self.default, bool):
            return f"{text} (default {str(self.default).lower()})"
        if isinstance(self.default, int | float | str):
            return f"{text} (default {self.default})"
        return text

    def _kind(self) -> str:
        if self.model:
            return f"a map with {in_words([field.name for field in _main_fields(self.model)])}"
        if self.choices:
            return in_words(self.choices)
        for kind, words in _KINDS.items():
            if kind in self.kinds:
                return words
        return "a value"

    def _bounds(self) -> str:
        words = []
        for bound in _constraints(self.info):
            match bound:
                case annotated_types.Ge(ge=low):
                    words.append(f"from {_number(low)}")
                case annotated_types.Gt(gt=low):
                    words.append(f"above {_number(low)}")
                case annotated_types.Le(le=high):
                    words.append(f"up to {_number(high)}")
                case annotated_types.Lt(lt=high):
                    words.append(f"below {_number(high)}")
                case annotated_types.MaxLen(max_length=length):
                    words.append(
                        f"of at most {length} {'characters' if str in self.kinds else 'entries'}"
                    )
                case _:
                    pass
        return ", ".join(words)


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a map",
    tuple: "a list",
}


def fields_of(model: Model) -> tuple[Field, ...]:
    """Return the fields of `model`, in the order of their declaration."""
    return tuple(Field(info.alias or name, info) for name, info in model.model_fields.items())


def field_at(model: Model, location: Sequence[str | int]) -> Field | None:
    """Return the field at a path of YAML names, if there is one."""
    field = None
    for step in location:
        if isinstance(step, int):
            model = (field.entry if field else None) or BaseModel
            continue
        field = next((field for field in fields_of(model) if field.name == step), None)
        if field is None:
            return None
        model = field.model or BaseModel
    return field


def in_words(names: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def walk(model: Model, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Yield every field below `model` with its path, parents first."""
    for field in fields_of(model):
        path = (*prefix, field.name)
        yield path, field
        if field.model:
            yield from walk(field.model, path)


def _main_fields(model: Model) -> list[Field]:
    """Return the required fields, or the first few where none is."""
    fields = fields_of(model)
    return [field for field in fields if field.info.is_required()] or list(fields[:3])


def _kinds(annotation: object) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif isinstance(origin, type):
        yield origin
    elif isinstance(annotation, type) and annotation is not type(None):
        yield annotation


def _constraints(info: FieldInfo) -> Iterator[object]:
    yield from info.metadata
    for part in get_args(info.annotation):
        for extra in get_args(part)[1:] if get_origin(part) is Annotated else ():
            if isinstance(extra, FieldInfo):
                yield from extra.metadata


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
