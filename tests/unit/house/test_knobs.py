"""A knob that nobody reads promises something that does not happen."""

import pytest
from pydantic import BaseModel, model_validator

from rlhf_operator.api.spec import RLHFRunSpec
from unread_knobs import product_sources, unread


class Inner(BaseModel):
    rate: float = 1
    steps: int = 1


class OtherInner(BaseModel):
    rate: float = 1


class Outer(BaseModel):
    inner: Inner = Inner()
    other: OtherInner | None = None
    size: int = 1

    @property
    def doubled_size(self) -> int:
        return 2 * self.size

    @model_validator(mode="after")
    def checked(self) -> "Outer":
        assert self.inner.steps
        return self


MODEL = """
class Outer(ConfigModel):
    @property
    def doubled_size(self) -> int:
        return 2 * self.size

    @model_validator(mode="after")
    def checked(self) -> "Outer":
        assert self.inner.steps
        return self
"""

EVERYTHING = {"spec.inner", "spec.inner.rate", "spec.inner.steps"} | {
    "spec.other",
    "spec.other.rate",
    "spec.size",
}


@pytest.mark.parametrize(
    ("source", "read"),
    [
        pytest.param("", set(), id="validators-do-not-count"),
        pytest.param(
            "def f(c: Outer) -> float:\n    return c.inner.rate",
            {"spec.inner", "spec.inner.rate"},
            id="chain",
        ),
        pytest.param(
            "def f(c: Outer) -> float:\n    inner = c.inner\n    return inner.rate",
            {"spec.inner", "spec.inner.rate"},
            id="local-variable",
        ),
        pytest.param(
            "class P:\n"
            "    def __init__(self, c: Outer) -> None:\n"
            "        self.c, self.other = c, c.other\n"
            "    def f(self) -> float:\n"
            "        return self.other.rate if self.other else 0",
            {"spec.other", "spec.other.rate"},
            id="attribute-of-another-class",
        ),
        pytest.param(
            "def f(c: Outer | None) -> int:\n    return c.doubled_size",
            {"spec.size"},
            id="property",
        ),
        pytest.param(
            "def f(all: list[Inner]) -> int:\n    return sum(one.steps for one in all)",
            {"spec.inner.steps"},
            id="element-of-a-list",
        ),
        pytest.param("def f(x):\n    return x.steps", {"spec.inner.steps"}, id="unique-name"),
        pytest.param("def f(x):\n    return x.rate", set(), id="ambiguous-name-of-unknown-type"),
        pytest.param(
            'def f(c: Outer) -> int:\n    return getattr(c, "size")',
            {"spec.size"},
            id="named-getattr",
        ),
        pytest.param(
            "def f(c: Inner, name: str) -> int:\n    return getattr(c, name)",
            {"spec.inner.rate", "spec.inner.steps"},
            id="computed-getattr",
        ),
        pytest.param("def f(c: Outer) -> None:\n    c.size = 3", set(), id="writing"),
    ],
)
def test_unread_counts_what_is_read(source: str, read: set[str]) -> None:
    assert set(unread(Outer, [MODEL, source])) == EVERYTHING - read


def test_every_knob_is_read() -> None:
    assert unread(RLHFRunSpec, product_sources()) == []
