from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from rlhf_operator.api import RLHFRun
from rlhf_operator.api.fields import field_at, fields_of, in_words, walk


class Inner(BaseModel):
    size: int = 1


class Sample(BaseModel):
    kind: Literal["A", "B"]
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    checked: Annotated[str, AfterValidator(str.strip)] | None = None
    pair: tuple[int, ...] = ()
    table: dict[str, int] = Field(default_factory=dict, max_length=3)
    flag: bool = True
    inner: Inner = Inner()
    inners: tuple[Inner, ...] | None = None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kind", "A or B"),
        ("share", "a number from 0, up to 1"),
        ("checked", "text"),
        ("pair", "a list"),
        ("table", "a map of at most 3 entries"),
        ("flag", "true or false (default true)"),
        ("inner", "a map with size"),
    ],
)
def test_wanted_says_what_a_value_must_be(name: str, words: str) -> None:
    field = field_at(Sample, [name])
    assert field is not None
    assert field.wanted() == words


def test_field_at_unknown_path_is_none() -> None:
    assert field_at(Sample, ["inner", "none"]) is None
    assert field_at(Sample, ["kind", "none"]) is None
    assert field_at(Sample, []) is None


def test_field_at_entry_of_a_list_is_the_entry_s() -> None:
    field = field_at(Sample, ["inners", 2, "size"])
    assert field is not None
    assert field.name == "size"
    assert field_at(Sample, ["inners", 2, "none"]) is None
    assert field_at(Sample, [0]) is None
    assert field_at(Sample, ["pair", 0, "none"]) is None


def test_walk_yields_parents_first() -> None:
    paths = [".".join(path) for path, _ in walk(Sample)]
    assert paths[-3:] == ["inner", "inner.size", "inners"]
    assert len(fields_of(Sample)) == len(paths) - 1


@pytest.mark.parametrize(
    ("names", "words"),
    [((), ""), (("a",), "a"), (("a", "b"), "a or b"), (("a", "b", "c"), "a, b or c")],
)
def test_in_words_lists_names(names: tuple[str, ...], words: str) -> None:
    assert in_words(names) == words


def test_every_field_of_the_resource_is_documented() -> None:
    undocumented = [".".join(path) for path, field in walk(RLHFRun) if not field.document]
    assert undocumented == []
