"""`--set spec.ppo.learningRate=1e-4`: one value of the manifest, changed on the command line.

The result is validated like a manifest; nothing is checked here but that there is such a place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ruamel.yaml.comments import CommentedMap

from rlhf_operator.api.yaml_text import parse_value
from rlhf_operator.errors import InvalidManifestError, SpecError

OPTION = "--set"


@dataclass(frozen=True)
class Override:
    """A value and where it goes."""

    location: tuple[str, ...]
    value: object

    @property
    def path(self) -> str:
        """Where it goes, as the user writes it."""
        return ".".join(self.location)


def parse_override(text: str) -> Override:
    """Parse `PATH=VALUE`.

    Raises:
        SpecError: there is no `=`, the path does not begin with `spec.`, or the value is not YAML.
    """
    path, equals, value = text.partition("=")
    location = tuple(path.strip().split("."))
    if not equals or len(location) < 2 or location[0] not in ("spec", "metadata"):  # noqa: PLR2004 -- root and field
        raise SpecError(
            field=OPTION,
            value=text,
            problem="not an override",
            fix="write spec.FIELD=VALUE, such as spec.ppo.learningRate=1e-4",
        )
    try:
        return Override(location, parse_value(value))
    except ValueError as error:
        raise SpecError(
            field=path,
            value=value,
            problem=f"not YAML ({error})",
            fix="quote the value",
            place=OPTION,
        ) from error


def apply_overrides(tree: object, texts: Sequence[str]) -> tuple[Override, ...]:
    """Change `tree` in place and return what was changed.

    Raises:
        InvalidManifestError: one or more are not overrides, or lead through what is no map.
    """
    overrides, problems = [], []
    for text in texts:
        try:
            override = parse_override(text)
            _apply(tree, override)
            overrides.append(override)
        except SpecError as error:
            problems.append(error)
    if problems:
        raise InvalidManifestError(problems)
    return tuple(overrides)


def _apply(tree: object, override: Override) -> None:
    node = tree
    for depth, step in enumerate(override.location):
        if not isinstance(node, dict):
            raise SpecError(
                field=override.path,
                value=override.value,
                problem=f"{'.'.join(override.location[:depth]) or 'the manifest'} is not a map",
                fix="set one of its fields in the manifest first",
                place=OPTION,
            )
        if depth == len(override.location) - 1:
            node[step] = override.value
        else:
            below = CommentedMap() if node.get(step) is None else node[step]
            # Copied with its lines: an alias makes other fields of the manifest the same map.
            node[step] = below.copy() if isinstance(below, dict) else below
            node = node[step]
