"""The pools ConfigMap: one key per pool, its value the pool as YAML."""

from collections.abc import Mapping

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rlhf_operator.api.pool import Pool
from rlhf_operator.errors import SpecError


def parse_pools(data: Mapping[str, str]) -> dict[str, Pool]:
    """Return the pools that a ConfigMap's `data` declares, by name.

    Raises:
        SpecError: one of them cannot be read; the message names it, field and fix.
    """
    return {name: _parse(name, text) for name, text in sorted(data.items())}


def read_pools(text: str, file: str) -> dict[str, Pool]:
    """Return the pools of a file of the chart's values: a map of pools under the key `pools`.

    Raises:
        SpecError: one of them cannot be read, or there are none.
    """
    tree = _yaml(text, file)
    pools = tree.get("pools") if isinstance(tree, dict) else None
    if not isinstance(pools, dict):
        raise SpecError(
            field=file, problem="declares no pools", fix="write them as examples/pools.yaml does"
        )
    return {str(name): _pool(str(name), pool) for name, pool in pools.items()}


def _parse(name: str, text: str) -> Pool:
    return _pool(name, _yaml(text, f"pools.{name}"))


def _yaml(text: str, field: str) -> object:
    try:
        tree: object = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise SpecError(
            field=field, problem="not YAML", fix="check indentation, colons and quotes"
        ) from error
    return tree


def _pool(name: str, tree: object) -> Pool:
    if not isinstance(tree, dict | None):
        raise SpecError(
            field=f"pools.{name}", value=tree, problem="not a map of fields", fix="write a map"
        )
    try:
        return Pool.model_validate({**(tree or {}), "name": name}, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in ("pools", name, *first["loc"]))
        known = ", ".join(
            str(info.alias) for field, info in Pool.model_fields.items() if field != "name"
        )
        raise SpecError(
            field=place, value=first["input"], problem=first["msg"], fix=f"known here: {known}"
        ) from error
