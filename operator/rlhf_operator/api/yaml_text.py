"""YAML 1.2 with positions: `1e-5` is a number, `yes` is text, a duplicate key is an error.

Whether the text makes sense as a run is not decided here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from rlhf_operator.errors import InvalidManifestError, SpecError

Location = Sequence[str | int]
"""Path of a field from the document's root."""


@dataclass(frozen=True)
class Document:
    """A YAML document that remembers where its fields stand."""

    name: str
    """File name, as the user gave it."""
    tree: object
    """Maps and lists keep the positions of their entries."""

    def place(self, location: Location) -> str:
        """Return `FILE:LINE` of the field at `location`."""
        return f"{self.name}:{self.line(location)}"

    def line(self, location: Location) -> int:
        """Return the line of the field at `location`, or of what surrounds it if it is absent."""
        line, node = 1, self.tree
        for step in location:
            if isinstance(node, CommentedMap) and step in node and node.lc.data:
                # An overriding `--set` may have added the key: it has no line of its own.
                line = node.lc.data[step][0] + 1 if step in node.lc.data else line
            elif isinstance(node, CommentedSeq) and step in node.lc.data:
                line = node.lc.data[step][0] + 1
            else:
                break
            node = node[step]
        return line


def parse_document(text: str, name: str) -> Document:
    """Parse the one document in `text`.

    Raises:
        InvalidManifestError: the text is not YAML, or holds several documents.
    """
    try:
        return Document(name, _loader().load(StringIO(text)))
    except DuplicateKeyError as error:
        raise InvalidManifestError([_duplicate(error, name)]) from error
    except MarkedYAMLError as error:
        raise InvalidManifestError([_syntax(error, name)]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = SpecError(
            field="manifest",
            problem="not YAML (a control character)",
            fix="remove it",
            place=f"{name}:{line}",
        )
        raise InvalidManifestError([problem]) from error


def parse_value(text: str) -> object:
    """Parse the value of an option.

    Raises:
        ValueError: the text is not YAML.
    """
    try:
        value: object = _loader().load(StringIO(text))
    except YAMLError as error:
        msg = str(getattr(error, "problem", None) or "it cannot be read")
        raise ValueError(msg) from error
    return value


def odd_keys(tree: object) -> Iterator[Location]:
    """Yield where keys stand that are no text, such as dates and numbers: JSON has none."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), tree)]
    while waiting:
        location, node = waiting.pop()
        # An alias is the same node once more, or contains itself.
        if not isinstance(node, dict | list) or id(node) in seen:
            continue
        seen.add(id(node))
        below = node.items() if isinstance(node, dict) else enumerate(node)
        entries = [((*location, step), value) for step, value in below]
        if isinstance(node, dict):
            yield from (path for path, _ in entries if not isinstance(path[-1], str))
        waiting += reversed(entries)


def _loader() -> YAML:
    return YAML(typ="rt", pure=True)


def _line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark is not None else 1


def _duplicate(error: DuplicateKeyError, name: str) -> SpecError:
    found = str(error.problem).split('"')
    key = found[1] if len(found) > 1 else "key"
    return SpecError(
        field=key,
        problem="appears twice in the same map",
        fix="keep one of the two",
        place=f"{name}:{_line(error)}",
    )


def _syntax(error: MarkedYAMLError, name: str) -> SpecError:
    place = f"{name}:{_line(error)}"
    if "single document" in str(error.context or ""):
        return SpecError(
            field="manifest",
            problem="a second document begins here",
            fix="keep one RLHFRun per file",
            place=place,
        )
    return SpecError(
        field="manifest",
        problem=f"not YAML ({error.problem or error.context})",
        fix="check indentation, colons and quotes near this line",
        place=place,
    )
