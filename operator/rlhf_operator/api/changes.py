"""What may change about a run once it has begun, and how a forbidden change is found.

The training half may not, except for the guard: a run means one set of hyper-parameters.
"""

from typing import NamedTuple

from pydantic import JsonValue

from rlhf_operator.api.spec import RLHFRunSpec

MUTABLE = frozenset({"guard"})
"""Fields of the training half that take effect with the next attempt."""


class Change(NamedTuple):
    """A field that differs."""

    path: str
    before: JsonValue
    after: JsonValue


def forbidden_change(before: RLHFRunSpec, after: RLHFRunSpec) -> Change | None:
    """Return the first field of the training half that may not change and did."""
    return _first_change(_fixed_half(before), _fixed_half(after), "spec")


def _fixed_half(spec: RLHFRunSpec) -> JsonValue:
    half: JsonValue = spec.training().model_dump(mode="json", by_alias=True, exclude=set(MUTABLE))
    return half


def _first_change(before: JsonValue, after: JsonValue, path: str) -> Change | None:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return None if before == after else Change(path, before, after)
    for name in (*before, *(after.keys() - before.keys())):
        change = _first_change(before.get(name), after.get(name), f"{path}.{name}")
        if change is not None:
            return change
    return None
