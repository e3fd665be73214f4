"""From a manifest's text to an `RLHFRun`, or to every problem with it.

Strict, as the API server is: no text for numbers, no fields by their Python names, no unknown
fields. Whether the files that it names exist is not decided here.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rlhf_operator.api.overrides import OPTION, Override, apply_overrides
from rlhf_operator.api.problems import problem_of
from rlhf_operator.api.run import RLHFRun
from rlhf_operator.api.yaml_text import Document, Location, odd_keys, parse_document
from rlhf_operator.errors import InvalidManifestError, SpecError


def load_manifest(path: Path, overrides: Sequence[str] = ()) -> RLHFRun:
    """Read a manifest file, apply `--set` overrides and validate it.

    Raises:
        InvalidManifestError: the file cannot be read, or has problems.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problem = SpecError(
            field="manifest", value=path, problem=f"cannot be read ({reason})", fix="check the path"
        )
        raise InvalidManifestError([problem]) from error
    return parse_manifest(text, str(path), overrides)


def parse_manifest(text: str, name: str, overrides: Sequence[str] = ()) -> RLHFRun:
    """Turn a manifest's text into a run without status.

    Raises:
        InvalidManifestError: it has problems.
    """
    document = parse_document(text, name)
    if not isinstance(document.tree, dict):
        problem = SpecError(
            field="manifest",
            value=document.tree,
            problem="not a map of fields",
            fix="`rlhf init` writes one to start from",
            place=f"{name}:1",
        )
        raise InvalidManifestError([problem])
    applied = apply_overrides(document.tree, overrides)
    if odd := sorted(odd_keys(document.tree), key=document.line):
        raise InvalidManifestError([_odd_key(at, _place(document, applied, at)) for at in odd])
    try:
        # Strict about numbers and text; in JSON, choices are text even so.
        return RLHFRun.model_validate_json(
            _json(document), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        found = _without_echoes(error.errors(include_url=False))
        found.sort(key=lambda details: document.line(details["loc"]))
        problems = [
            problem_of(details, RLHFRun, lambda location: _place(document, applied, location))
            for details in found
        ]
        raise InvalidManifestError(problems) from error


def _without_echoes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short where wrong entries were not counted."""
    wrong = {details["loc"][:depth] for details in errors for depth in range(len(details["loc"]))}
    return [
        details
        for details in errors
        if details["type"] != "too_short" or details["loc"] not in wrong
    ]


def _odd_key(location: Location, place: str) -> SpecError:
    return SpecError(
        field=".".join(map(str, location)),
        problem="its name is not text",
        fix="put the name in quotes",
        place=place,
    )


def _json(document: Document) -> str:
    """Return the tree as JSON, without the status that an object copied from a cluster brings."""
    assert isinstance(document.tree, dict)  # noqa: S101 -- the caller has looked
    tree = {key: value for key, value in document.tree.items() if key != "status"}
    # Dates and tagged values are text for our purposes: no field takes them.
    return json.dumps(tree, default=str)


def _place(document: Document, overrides: Sequence[Override], location: Location) -> str:
    for override in overrides:
        depth = len(override.location)
        if tuple(location[:depth]) == override.location:
            return OPTION
    return document.place(location)
