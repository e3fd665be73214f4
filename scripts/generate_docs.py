"""Writes the reference pages from the code: `python scripts/generate_docs.py`.

What stands in docs/reference is never edited by hand. `make verify` fails when it is out of date.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from queries import example_metrics
from rlhf_operator.api import Pool, RunStatus
from rlhf_operator.api.outcome import RunOutcome
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_trainer.contract import METRICS, Outcome

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"

HEAD = "<!-- DO NOT EDIT: written by `make generate` from the code. -->\n\n"

CONFIG = (
    "# Configuration\n\n"
    "Every field of an `RLHFRun`'s `spec`. Unknown fields are errors. "
    "`rlhf run FILE --set spec.ppo.learningRate=1e-5` overrides one.\n"
)

STATUS = (
    "# Status\n\n"
    "Every field of an `RLHFRun`'s `status`, written by the operator or `rlhf run`. "
    "Readers must put up with fields that they do not know.\n"
)

POOLS = (
    "# Pools\n\n"
    "Node pools are declared once, in the chart's value `pools`: a map from their names to these "
    "fields. Runs name one in `spec.placement.pool`. [Examples](../../examples/pools.yaml).\n"
)

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""


def member_docs(enumeration: type[StrEnum]) -> dict[str, str]:
    """Return the docstring under each member, by its value: nothing keeps them at run time."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(enumeration)))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    docs = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[str(enumeration[name])] = " ".join(text.split())
            case _:
                pass
    return docs


def row(*cells: str) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    return row(*head) + "|" + "---|" * len(head) + "\n" + "".join(row(*cells) for cells in rows)


class ModelPage:
    """The reference of a model and everything below it."""

    def __init__(self, intro: str, root: str, model: type[BaseModel]) -> None:
        self._intro, self._root = intro, root
        self._schema: Schema = model.model_json_schema(by_alias=True)
        self._told: dict[str, str] = {}
        """Where each kind of object is told, by its title: the first place that has it."""

    def text(self) -> str:
        """Return the page."""
        return HEAD + self._intro + "".join(self._sections(self._root, self._schema))

    def _sections(self, path: str, model: Schema) -> Iterator[str]:
        rows, nested = [], []
        for name, field in model["properties"].items():
            rows.append(self._row(path, name, field))
            inner = self._resolved(field)
            inner, suffix = (
                (self._resolved(inner["items"]), "[]") if "items" in inner else (inner, "")
            )
            if "properties" in inner and self._told[inner["title"]] == f"{path}.{name}{suffix}":
                nested.append((self._told[inner["title"]], inner))
        yield f"\n## {path}\n\n{one_line(model)}\n\n"
        yield table(("field", "type", "default", "bounds", "meaning"), rows)
        for inner_path, inner in nested:
            yield from self._sections(inner_path, inner)

    def _row(self, path: str, name: str, field: Schema) -> tuple[str, ...]:
        inner = self._resolved(field)
        return (
            f"`{name}`",
            self._type(f"{path}.{name}", inner),
            self._default(field, inner),
            bounds(inner),
            one_line(field),
        )

    def _resolved(self, field: Schema) -> Schema:
        """Follow references, and leave out that a field may be absent."""
        for part in field.get("anyOf", []):
            if part.get("type") != "null":
                return self._resolved(part)
        if "$ref" in field:
            found: Schema = self._schema["$defs"][field["$ref"].rpartition("/")[2]]
            return found
        return field

    def _type(self, path: str, inner: Schema) -> str:
        if "properties" in inner:
            return f"[object](#{self._anchor(path, inner)})"
        if "enum" in inner:
            return " or ".join(f"`{value}`" for value in inner["enum"])
        if inner.get("type") == "array":
            entry = self._resolved(inner["items"])
            if "properties" in entry:
                return f"list of [objects](#{self._anchor(f'{path}[]', entry)})"
            return f"list of {entry.get('type', 'value')}s"
        return str(inner.get("type", "any"))

    def _anchor(self, path: str, inner: Schema) -> str:
        told = self._told.setdefault(inner["title"], path)
        return "".join(letter for letter in told.lower() if letter not in ".[]")

    def _default(self, field: Schema, inner: Schema) -> str:
        if "properties" in inner:
            return ""
        default = field.get("default")
        return "" if default is None else f"`{json.dumps(default).strip(chr(34))}`"


def one_line(node: Schema) -> str:
    """Return a description without line breaks."""
    return " ".join(node.get("description", "").split())


def bounds(field: Schema) -> str:
    """Return what a value must keep to."""
    if "enum" in field:
        return ""
    texts = [
        f"{sign} {field[key]:,}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in field
    ]
    for key, unit in (
        ("maxLength", "characters"),
        ("maxItems", "items"),
        ("maxProperties", "entries"),
    ):
        if key in field:
            texts.append(f"at most {field[key]} {unit}")
    if "pattern" in field:
        texts.append(f"`{field['pattern']}`")
    return ", ".join(texts)


def metrics_page() -> str:
    """Return the tables of what rank 0 and the operator export."""
    rows = (
        (
            f"`{metric.series}`",
            metric.kind.value,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        )
        for metric in METRICS
    )
    intro = (
        "# Metrics\n\n"
        "Rank 0 of a phase serves these on `/metrics`, and writes them to `history.jsonl` once per "
        "step, by the same names without prefix. Units are in the names.\n\n"
    )
    head = ("series", "type", "labels", "meaning")
    return (
        f"{HEAD}{intro}{table(head, rows)}\n"
        "## The operator\n\n"
        "Each replica serves these on `/metrics` of port 8080; those about runs come from the one "
        "that leads. A histogram has the usual series `_bucket`, `_sum` and `_count`.\n\n"
        f"{table(head, operator_metrics())}"
    )


def operator_metrics() -> Iterator[tuple[str, ...]]:
    """Yield a row for each of the operator's metrics, as an operator with one run exports it."""
    for family in example_metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        labels = [name for name in family.samples[0].labels if name != "le"]
        yield (
            f"`{family.name}{suffix}`",
            family.type,
            ", ".join(f"`{label}`" for label in labels),
            family.documentation,
        )


def exit_codes_page() -> str:
    """Return the table of how a phase and a run can end."""
    phase_docs, run_docs = member_docs(Outcome), member_docs(RunOutcome)
    known = [outcome for outcome in Outcome if outcome is not Outcome.CRASHED]
    phases = [(str(outcome.exit_code), str(outcome), phase_docs[outcome]) for outcome in known]
    phases.append(("other", str(Outcome.CRASHED), phase_docs[Outcome.CRASHED]))
    own = [RunOutcome.RETRIES_EXHAUSTED, RunOutcome.DEADLINE_EXCEEDED]
    runs = [(str(outcome.exit_code), str(outcome), run_docs[outcome]) for outcome in own]
    runs += [
        ("42", "WorkspaceInUse", "Another `rlhf run` works in the workspace."),
        ("130", "Interrupted", "Interrupted from the keyboard; the same command resumes the run."),
    ]
    head = ("exit code", "outcome", "meaning")
    return (
        f"{HEAD}# Exit codes\n\n"
        "What to do about each is told in [On call](../on-call.md).\n\n"
        f"## A phase, and a run that it ends\n\n{table(head, phases)}\n"
        f"## Added by `rlhf run`\n\n{table(head, runs)}"
    )


def main() -> int:
    """Write every page."""
    pages = {
        "config.md": ModelPage(CONFIG, "spec", RLHFRunSpec).text(),
        "status.md": ModelPage(STATUS, "status", RunStatus).text(),
        "pools.md": ModelPage(POOLS, "pool", Pool).text(),
        "metrics.md": metrics_page(),
        "exit-codes.md": exit_codes_page(),
    }
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
