"""Writes what the chart has from elsewhere: `python scripts/generate_chart.py`.

Values, their schema and their reference come from `chart_values`, examples of pools from
examples/pools.yaml, the definition of RLHFRun from the models. No file is edited by hand, and
`make verify` fails when one is out of date.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

import generate_crds
from chart_values import Values
from generate_docs import REFERENCE, ModelPage

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "rlhf-operator"
POOLS = ROOT / "examples" / "pools.yaml"

HEAD = "# DO NOT EDIT: written by `make generate` from scripts/chart_values.py.\n"

INTRO = (
    "# Values of the chart\n\n"
    "What `helm install` takes by `--set` or `-f`. A value that is not here is refused. "
    "[Install](../install.md) says which of them matter when.\n"
)

KEEP = {"helm.sh/resource-policy": "keep"}
"""Annotation by which a definition, and with it every run, outlives its release."""

WIDTH = 100


def schema() -> dict[str, Any]:
    """Return the JSON schema of values.yaml."""
    tree = Values.model_json_schema(by_alias=True)
    pool = tree["$defs"]["Pool"]
    # A pool's name is the key that it stands under.
    del pool["properties"]["name"]
    del pool["required"]
    for node in _nodes(tree):
        # A key that does not match is refused, and not left unchecked.
        if "patternProperties" in node:
            node["additionalProperties"] = False
    tree["properties"]["global"] = {
        "type": "object",
        "description": "Values of a chart that this one is a part of; nothing is read here.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **tree}


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


def values_text() -> str:
    """Return values.yaml: every value with its default, below what it does."""
    return HEAD + "\n" + "\n".join(_blocks(Values, Values().model_dump(mode="json", by_alias=True)))


def _blocks(model: type[BaseModel], defaults: Mapping[str, Any]) -> Iterator[str]:
    for field in model.model_fields.values():
        name = str(field.alias)
        comment = _comment(field.description or "")
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = "\n".join(_blocks(kind, defaults[name]))
            yield f"{comment}{name}:\n{textwrap.indent(inner, '  ')}"
            continue
        more = _examples() if name == "pools" else ""
        yield f"{comment}{name}: {_inline(defaults[name])}\n{more}"


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)


def _inline(value: object) -> str:
    """Return a value in one line of YAML."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:g}"
    yaml = YAML(typ="rt", pure=True)
    yaml.default_flow_style = True
    yaml.width = 10_000
    output = StringIO()
    yaml.dump(value, output)
    return output.getvalue().removesuffix("...\n").strip()


def _examples() -> str:
    """Return the examples of pools, commented out, below the value that they are for."""
    _, _, below = POOLS.read_text(encoding="utf-8").partition("\npools:\n")
    return "".join(f"# {line}".rstrip() + "\n" for line in below.splitlines())


def main() -> int:
    """Write every file."""
    definitions = CHART / "definitions"
    definitions.mkdir(exist_ok=True)
    files = {
        CHART / "values.yaml": values_text(),
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        definitions / generate_crds.file_name(): generate_crds.text(KEEP),
        REFERENCE / "values.md": ModelPage(INTRO, "values", Values).text(),
    }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
