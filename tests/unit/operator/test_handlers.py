"""What a watch tells is kept and has its run looked at, unless a list of our own has told it."""

import asyncio
from typing import Any

import kopf
import pytest

from rlhf_operator.api import RunKey
from rlhf_operator.cluster import Cache
from rlhf_operator.handlers import configure, new_registry

KEY = RunKey("a", "demo")


def run(version: int) -> dict[str, Any]:
    named = {"namespace": "a", "name": "demo", "uid": "u"}
    return {"metadata": {**named, "resourceVersion": str(version)}}


def tell(registry: kopf.OperatorRegistry, type_: str | None, obj: dict[str, Any]) -> None:
    """Call the handler of runs as Kopf does."""
    handlers = registry._watching.get_all_handlers()
    [handler] = [one for one in handlers if one.id == "rlhfruns"]
    called: Any = handler.fn(event={"type": type_, "object": obj})
    asyncio.run(called)


@pytest.mark.parametrize(
    ("type_", "known", "told", "looked_at"),
    [
        (None, 4, 4, []),
        (None, 5, 4, []),
        (None, 4, 5, [KEY]),
        ("MODIFIED", 4, 4, [KEY]),
        ("DELETED", 4, 4, [KEY]),
    ],
    ids=["listed", "listed-late", "listed-newer", "our-own-write", "deleted"],
)
def test_run_is_looked_at_unless_a_list_tells_what_is_known(
    type_: str | None, known: int, told: int, looked_at: list[RunKey]
) -> None:
    cache, keys = Cache(), []
    registry = new_registry(cache, keys.append)
    cache.runs.put(run(known))
    tell(registry, type_, run(told))
    assert keys == looked_at


def test_kopf_copies_nothing_of_an_object_to_compare_it() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    body = kopf.Body({**run(4), "spec": {"a": 1}, "status": {"b": 2}})
    storage = settings.persistence.diffbase_storage
    assert storage.fetch(body=body) is None
    assert storage.build(body=body, extra_fields=["status"]) == {}
