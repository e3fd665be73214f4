"""Every problem with a manifest in one line: place, value, what is wrong, what to write instead.

Validation itself is pydantic's and the models'; this module only says it in the user's words.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rlhf_operator.api.fields import Field, Model, field_at, fields_of, in_words, walk
from rlhf_operator.api.overrides import OPTION
from rlhf_operator.errors import UNSET, SpecError

Place = Callable[[Sequence[str | int]], str]
"""Where the field at a path stands, for people."""

LISTED_NAMES = 8
"""A fix lists at most this many known names."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_OWN_MESSAGE = re.compile(r"^(?P<field>[A-Za-z_][\w.]*)=(?P<rest>.*)", re.DOTALL)
"""A model validator's message begins with the field it is about; a field validator's with the
value.
"""


def problem_of(error: ErrorDetails, root: Model, place: Place) -> SpecError:
    """Translate one of pydantic's errors about a document of type `root`."""
    location = error["loc"]
    if error["type"] == "value_error":
        return _own(str(error["ctx"]["error"]), location, place)
    if error["type"] == "extra_forbidden":
        return _unknown(error, root, place)
    field = field_at(root, location)
    wanted = field.wanted() if field else "another value"
    if error["type"] == "missing":
        problem, fix, value = "missing", f"add it: {wanted}{_purpose(field)}", UNSET
    else:
        problem, fix = _EXPLAINED.get(error["type"], _otherwise)(error, wanted)
        value = error["input"]
        if error["type"] == "string_type" and place(location) == OPTION:
            # Of the value only what YAML made of it is known: 0x1f, 1e3 and 007 are numbers.
            fix = "put it in double quotes, and the whole option in single ones"
    return SpecError(
        field=_dotted(location) or "manifest",
        value=value,
        problem=problem,
        fix=fix,
        place=place(location),
    )


def _own(message: str, location: Sequence[str | int], place: Place) -> SpecError:
    """Take over a validator's message, which is in the house form already."""
    head, _, rest = message.partition(": ")
    problem, _, fix = rest.rpartition("; ")
    match = _OWN_MESSAGE.match(head)
    if match is None:
        return SpecError(
            field=_dotted(location), value=head, problem=problem, fix=fix, place=place(location)
        )
    named = (*location, *match["field"].split("."))
    # The validators know Python's None; the manifest spells it null.
    value = re.sub(r"\bNone\b", "null", match["rest"])
    return SpecError(
        field=_dotted(named), value=value, problem=problem, fix=fix, place=place(named)
    )


def _unknown(error: ErrorDetails, root: Model, place: Place) -> SpecError:
    location = error["loc"]
    name = str(location[-1])
    parent = field_at(root, location[:-1]) if location[:-1] else None
    model = (parent.model or parent.entry if parent else None) or BaseModel
    if not location[:-1]:
        model = root
    return SpecError(
        field=_dotted(location),
        value=error["input"],
        problem="unknown field",
        fix=_suggestion(name, [field.name for field in fields_of(model)], root),
        place=place(location),
    )


def _suggestion(name: str, known: Sequence[str], root: Model) -> str:
    """Return what `name` may have meant: a neighbour, a namesake elsewhere, or what there is."""
    lowered = {candidate.lower(): candidate for candidate in known}
    folded = name.lower().replace("_", "").replace("-", "")
    if close := difflib.get_close_matches(folded, lowered, n=1, cutoff=0.6):
        return f"did you mean {lowered[close[0]]}?"
    # Nobody writes a status by hand.
    elsewhere = [".".join(path) for path, _ in walk(root) if path[-1] == name]
    elsewhere = [path for path in elsewhere if not path.startswith("status.")]
    if elsewhere:
        return f"did you mean {in_words(elsewhere[:3])}?"
    more = ", …" if len(known) > LISTED_NAMES else ""
    return f"known here: {', '.join(known[:LISTED_NAMES])}{more}"


def _purpose(field: Field | None) -> str:
    sentence = field.document.split(". ")[0].rstrip(".") if field else ""
    return f" ({sentence})" if sentence else ""


def _dotted(location: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in location)


def _out_of_bounds(words: str, key: str) -> Callable[[ErrorDetails, str], tuple[str, str]]:
    return lambda error, wanted: (f"must be {words} {_plain(error['ctx'][key])}", f"use {wanted}")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrong_type(words: str) -> Callable[[ErrorDetails, str], tuple[str, str]]:
    return lambda _, wanted: (words, f"use {wanted}")


def _no_number(error: ErrorDetails, wanted: str) -> tuple[str, str]:
    if isinstance(error["input"], str) and _NUMBER.fullmatch(error["input"].strip()):
        return "in quotes, so it is text and not a number", "remove the quotes"
    return "not a number", f"use {wanted}"


def _no_integer(error: ErrorDetails, wanted: str) -> tuple[str, str]:
    number = error["input"]
    if isinstance(number, float) and number.is_integer():
        return "has a decimal point or exponent", f"write {number:.0f}"
    return "not a whole number", f"use {wanted}"


def _choice(error: ErrorDetails, wanted: str) -> tuple[str, str]:
    expected = re.findall(r"'([^']*)'", str(error["ctx"]["expected"]))
    close = difflib.get_close_matches(str(error["input"]), expected, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return "not one of the choices", f"{guess}use {wanted}"


def _otherwise(error: ErrorDetails, wanted: str) -> tuple[str, str]:
    return error["msg"], f"use {wanted}"


_EXPLAINED: Mapping[str, Callable[[ErrorDetails, str], tuple[str, str]]] = {
    "greater_than": _out_of_bounds("above", "gt"),
    "greater_than_equal": _out_of_bounds("at least", "ge"),
    "less_than": _out_of_bounds("below", "lt"),
    "less_than_equal": _out_of_bounds("at most", "le"),
    "finite_number": _wrong_type("not finite"),
    "float_type": _no_number,
    "int_type": _no_integer,
    "int_from_float": _no_integer,
    "bool_type": _wrong_type("neither true nor false"),
    "string_type": lambda *_: ("not text", "put it in quotes"),
    "dict_type": _wrong_type("not a map"),
    "model_type": _wrong_type("not a map"),
    "enum": _choice,
    "literal_error": _choice,
    "string_too_short": lambda _, wanted: ("must not be empty", f"use {wanted}"),
    "string_too_long": lambda error, _: (
        f"has {len(str(error['input']))} characters",
        f"use at most {error['ctx']['max_length']}",
    ),
    "too_short": lambda error, _: (
        f"has {error['ctx']['actual_length']} entries",
        f"use at least {error['ctx']['min_length']}",
    ),
    "too_long": lambda _, wanted: ("too many entries", f"use {wanted}"),
    "string_pattern_mismatch": lambda error, wanted: (
        f"does not match {error['ctx']['pattern']}",
        f"use {wanted} of that form",
    ),
}
