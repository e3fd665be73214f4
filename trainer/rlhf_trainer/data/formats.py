"""TRL's dataset formats, from one row of a file to one typed record.

Language modelling (`text` or `messages`) and prompt-completion are demonstrations, preference rows
with an explicit or an implicit prompt are comparisons. Decided here: what is accepted, and what is
said about what is not. Further fields are left alone (data sets carry ids and scores);
`Parsed.fields` says which were read. Where rows come from, and whether all rows of a file are of
one format, is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from rlhf_trainer.data.records import (
    Annotation,
    Choice,
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Record,
    Role,
    Text,
)

R = TypeVar("R", bound=Record)
E = TypeVar("E", bound=StrEnum)

DEMONSTRATION_FORMATS = (("text",), ("messages",), ("prompt", "completion"))
"""Fields that make a demonstration."""


class RecordError(Exception):
    """A row is no record of its kind."""

    def __init__(self, field: str, value: object, problem: str, fix: str) -> None:
        super().__init__(f"{field}={value!r}: {problem}; {fix}")
        self.field, self.value, self.problem, self.fix = field, value, problem, fix


@dataclass(frozen=True, slots=True)
class Parsed(Generic[R]):
    """A record, and how its row spelled it."""

    record: R
    format: str
    """The same for all rows that one file may mix."""
    fields: frozenset[str]
    """Fields of the row that made the record."""


def parse_demonstration(place: str, row: Mapping[str, object]) -> Parsed[Demonstration]:
    """Return the demonstration that `row` spells.

    Raises:
        RecordError: it is none.
    """
    names = _demonstration_fields(row)
    if names == ("text",):
        record = Demonstration(place, "", _content("text", row["text"]))
    elif names == ("messages",):
        messages = _messages("messages", row["messages"])
        _require_opening("messages", messages)
        _require_assistant("messages", messages)
        record = Demonstration(place, (), messages)
    else:
        prompt, completion = _texts_of_one_kind(row, names)
        _require_opening("prompt", prompt)
        _require_answer("completion", completion)
        record = Demonstration(place, prompt, completion)
    return Parsed(record, _format("-".join(names), record.completion), frozenset(names))


def parse_comparison(place: str, row: Mapping[str, object]) -> Parsed[Comparison]:
    """Return the comparison that `row` spells.

    Raises:
        RecordError: it is none.
    """
    explicit = ("prompt",) if "prompt" in row else ()
    *prompts, chosen, rejected = _texts_of_one_kind(row, (*explicit, "chosen", "rejected"))
    if chosen == rejected:
        raise RecordError(
            "rejected",
            row["rejected"],
            "is the same as chosen",
            "remove the record: it prefers nothing",
        )
    prompt, chosen, rejected = _split_prompt(prompts[0] if prompts else None, chosen, rejected)
    _require_answer("chosen", chosen)
    _require_answer("rejected", rejected)
    annotations = _annotations(row["annotations"]) if "annotations" in row else ()
    record = Comparison(place, prompt, chosen, rejected, annotations)
    spelling = "preference with explicit prompt" if explicit else "preference with implicit prompt"
    used = {*explicit, "chosen", "rejected", *({"annotations"} & row.keys())}
    return Parsed(record, _format(spelling, chosen), frozenset(used))


def parse_prompt(place: str, row: Mapping[str, object]) -> Parsed[Prompt]:
    """Return the prompt that `row` spells.

    Raises:
        RecordError: it is none.
    """
    (prompt,) = _texts_of_one_kind(row, ("prompt",))
    _require_opening("prompt", prompt)
    if isinstance(prompt, tuple) and prompt[-1].role is Role.ASSISTANT:
        raise RecordError(
            f"prompt[{len(prompt) - 1}].role",
            "assistant",
            "leaves nothing to respond to",
            "end the prompt with a message of the user",
        )
    return Parsed(Prompt(place, prompt), _format("prompt", prompt), frozenset({"prompt"}))


def _format(spelling: str, text: Text) -> str:
    return f"{spelling}, {_kind(text)}"


def _kind(text: Text) -> str:
    return "text" if isinstance(text, str) else "conversational"


def _demonstration_fields(row: Mapping[str, object]) -> tuple[str, ...]:
    found = [names for names in DEMONSTRATION_FORMATS if all(name in row for name in names)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RecordError(
            "fields",
            sorted(row),
            "make no demonstration",
            "write `text`, or `messages`, or `prompt` and `completion`",
        )
    spelled = " as well as ".join(" and ".join(names) for names in found)
    raise RecordError("fields", sorted(row), f"hold {spelled}", "keep one of them")


def _texts_of_one_kind(row: Mapping[str, object], names: Sequence[str]) -> list[Text]:
    """Return the named fields, which must all be text or all be conversations."""
    texts = [_text(name, row) for name in names]
    for name, text in zip(names, texts, strict=True):
        if _kind(text) != _kind(texts[0]):
            raise RecordError(
                name,
                row[name],
                f"is {_kind(text)} where {names[0]} is {_kind(texts[0])}",
                "write both as strings or both as lists of messages"
                + (
                    ", or leave out a prompt that both responses repeat"
                    if "chosen" in names
                    else ""
                ),
            )
    return texts


def _text(name: str, row: Mapping[str, object]) -> Text:
    if name not in row:
        raise RecordError(
            "fields", sorted(row), f"lack {name!r}", f"add {name!r}, or remove the record"
        )
    value = row[name]
    return _content(name, value) if isinstance(value, str) else _messages(name, value)


def _content(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise RecordError(field, value, f"is {_type(value)}, not text", "write a string")
    if not value.strip():
        raise RecordError(field, value, "is empty", "write some text, or remove the record")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(
            field,
            value,
            "holds half of a surrogate pair, which is no character",
            r"remove the lone \ud800 to \udfff",
        ) from None
    return value


def _messages(field: str, value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RecordError(
            field,
            value,
            f"is {_type(value)}, neither text nor a list of messages",
            'write a string, or [{"role": …, "content": …}, …]',
        )
    if not value:
        raise RecordError(field, value, "is empty", "add messages, or remove the record")
    return tuple(_message(f"{field}[{index}]", item) for index, item in enumerate(value))


def _message(field: str, value: object) -> Message:
    if not isinstance(value, Mapping):
        raise RecordError(
            field, value, f"is {_type(value)}, not a message", 'write {"role": …, "content": …}'
        )
    for name in ("role", "content"):
        if value.get(name) is None:
            raise RecordError(field, value, f"lacks {name!r}", f"add {name!r}")
    role = _member(Role, f"{field}.role", value["role"])
    return Message(role, _content(f"{field}.content", value["content"]))


def _member(enum: type[E], field: str, value: object) -> E:
    for member in enum:
        if member.value == value:
            return member
    raise RecordError(field, value, "is unknown", f"use one of {', '.join(enum)}")


def _type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    names |= {int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def _require_opening(field: str, text: Text) -> None:
    if isinstance(text, tuple) and text[0].role is Role.ASSISTANT:
        raise RecordError(
            f"{field}[0].role",
            "assistant",
            "opens the conversation, so that nothing prompts it",
            "begin with a message of the system or the user",
        )


def _require_assistant(field: str, messages: tuple[Message, ...]) -> None:
    if all(message.role is not Role.ASSISTANT for message in messages):
        raise RecordError(
            field,
            [message.role.value for message in messages],
            "holds no message of the assistant, so that there is nothing to learn",
            "add the assistant's answer, or remove the record",
        )


def _require_answer(field: str, text: Text) -> None:
    if isinstance(text, tuple) and text[-1].role is not Role.ASSISTANT:
        raise RecordError(
            field,
            [message.role.value for message in text],
            "does not end with a message of the assistant",
            "end it with the assistant's answer",
        )


def _split_prompt(prompt: Text | None, chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Return prompt, chosen and rejected; an implicit prompt is the messages that both share."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return prompt or "", chosen, rejected
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if prompt is not None:
        for field, turns in (("chosen", chosen), ("rejected", rejected)):
            if turns[: len(prompt)] == prompt:
                raise RecordError(
                    field,
                    [message.role.value for message in turns],
                    "repeats the prompt's messages",
                    "leave the prompt out, or out of both responses",
                )
        _require_opening("prompt", prompt)
        return prompt, chosen, rejected
    if not shared:
        raise RecordError(
            "rejected[0]",
            rejected[0].content,
            "is not chosen's first message: they share no prompt",
            "begin both with the same messages, or add `prompt`",
        )
    for field, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) == shared:
            raise RecordError(
                field,
                [message.role.value for message in turns],
                "ends where the shared messages end: it holds no response",
                "add the assistant's answer, or remove the record",
            )
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _annotations(value: object) -> tuple[Annotation, ...]:
    if not isinstance(value, list):
        raise RecordError(
            "annotations",
            value,
            f"is {_type(value)}, not a list",
            'write [{"annotator": …, "choice": …}, …]',
        )
    annotations: list[Annotation] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        annotation = _annotation(f"annotations[{index}]", item)
        if annotation.annotator in seen:
            raise RecordError(
                f"annotations[{index}].annotator",
                annotation.annotator,
                "has chosen before in this record",
                "keep one choice per annotator",
            )
        seen.add(annotation.annotator)
        annotations.append(annotation)
    return tuple(annotations)


def _annotation(field: str, value: object) -> Annotation:
    if not isinstance(value, Mapping):
        raise RecordError(
            field,
            value,
            f"is {_type(value)}, not an annotation",
            'write {"annotator": …, "choice": …}',
        )
    for name in ("annotator", "choice"):
        if value.get(name) is None:
            raise RecordError(field, value, f"lacks {name!r}", f"add {name!r}")
    annotator = _content(f"{field}.annotator", value["annotator"])
    return Annotation(annotator, _member(Choice, f"{field}.choice", value["choice"]))
