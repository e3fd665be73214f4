from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rlhf_trainer.data.formats import (
    Parsed,
    RecordError,
    parse_comparison,
    parse_demonstration,
    parse_prompt,
)
from rlhf_trainer.data.records import (
    Annotation,
    Choice,
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Record,
    Role,
)

Row = dict[str, Any]
Parse = Callable[[str, Mapping[str, object]], Parsed[Any]]

HELLO = {"role": "user", "content": "Hello"}
BRIEF = {"role": "system", "content": "Be brief"}
HI = {"role": "assistant", "content": "Hi"}
GO = {"role": "assistant", "content": "Go away"}
USER = Message(Role.USER, "Hello")
SYSTEM = Message(Role.SYSTEM, "Be brief")
POLITE = Message(Role.ASSISTANT, "Hi")
RUDE = Message(Role.ASSISTANT, "Go away")
UNRATED = {"chosen": "good", "rejected": "bad"}
FIX_MESSAGE = 'write {"role": …, "content": …}'

ACCEPTED: dict[str, tuple[Parse, Row, Record, str]] = {
    "text": (
        parse_demonstration,
        {"text": "a story"},
        Demonstration("f:1", "", "a story"),
        "text, text",
    ),
    "messages": (
        parse_demonstration,
        {"messages": [BRIEF, HELLO, HI]},
        Demonstration("f:1", (), (SYSTEM, USER, POLITE)),
        "messages, conversational",
    ),
    "prompt-completion": (
        parse_demonstration,
        {"prompt": "Say hi:", "completion": " hi"},
        Demonstration("f:1", "Say hi:", " hi"),
        "prompt-completion, text",
    ),
    "prompt-completion of messages": (
        parse_demonstration,
        {"prompt": [HELLO], "completion": [HI]},
        Demonstration("f:1", (USER,), (POLITE,)),
        "prompt-completion, conversational",
    ),
    "messages beside a plain prompt, as UltraChat": (
        parse_demonstration,
        {"prompt": "Hello", "messages": [HELLO, HI]},
        Demonstration("f:1", (), (USER, POLITE)),
        "messages, conversational",
    ),
    "preference, implicit prompt": (
        parse_comparison,
        {"chosen": "good", "rejected": "bad"},
        Comparison("f:1", "", "good", "bad"),
        "preference with implicit prompt, text",
    ),
    "preference, explicit prompt": (
        parse_comparison,
        {"prompt": "It is", "chosen": " good", "rejected": " bad"},
        Comparison("f:1", "It is", " good", " bad"),
        "preference with explicit prompt, text",
    ),
    "preference of messages, implicit prompt": (
        parse_comparison,
        {"chosen": [BRIEF, HELLO, HI], "rejected": [BRIEF, HELLO, GO]},
        Comparison("f:1", (SYSTEM, USER), (POLITE,), (RUDE,)),
        "preference with implicit prompt, conversational",
    ),
    "preference of messages, explicit prompt": (
        parse_comparison,
        {"prompt": [HELLO], "chosen": [HI], "rejected": [GO]},
        Comparison("f:1", (USER,), (POLITE,), (RUDE,)),
        "preference with explicit prompt, conversational",
    ),
    "annotated preference": (
        parse_comparison,
        {**UNRATED, "annotations": [{"annotator": f"by {c}", "choice": c.value} for c in Choice]},
        Comparison(
            "f:1",
            "",
            "good",
            "bad",
            tuple(Annotation(f"by {choice}", choice) for choice in Choice),
        ),
        "preference with implicit prompt, text",
    ),
    "no annotators yet": (
        parse_comparison,
        {"chosen": "good", "rejected": "bad", "annotations": []},
        Comparison("f:1", "", "good", "bad"),
        "preference with implicit prompt, text",
    ),
    "prompt": (parse_prompt, {"prompt": "Once"}, Prompt("f:1", "Once"), "prompt, text"),
    "prompt of messages": (
        parse_prompt,
        {"prompt": [HELLO]},
        Prompt("f:1", (USER,)),
        "prompt, conversational",
    ),
}

REFUSED: dict[str, tuple[Parse, Row, str]] = {
    "no format": (
        parse_demonstration,
        {"question": "?", "answer": "!"},
        (
            "fields=['answer', 'question']: make no demonstration; "
            "write `text`, or `messages`, or `prompt` and `completion`"
        ),
    ),
    "half a format": (
        parse_demonstration,
        {"prompt": "a"},
        (
            "fields=['prompt']: make no demonstration; "
            "write `text`, or `messages`, or `prompt` and `completion`"
        ),
    ),
    "two formats": (
        parse_demonstration,
        {"text": "a", "prompt": "b", "completion": "c"},
        (
            "fields=['completion', 'prompt', 'text']: hold text as well as prompt and completion; "
            "keep one of them"
        ),
    ),
    "number for text": (
        parse_demonstration,
        {"text": 3},
        "text=3: is a number, not text; write a string",
    ),
    "truth value for text": (
        parse_demonstration,
        {"text": True},
        "text=True: is a truth value, not text; write a string",
    ),
    "empty text": (
        parse_demonstration,
        {"text": ""},
        "text='': is empty; write some text, or remove the record",
    ),
    "blank text": (
        parse_demonstration,
        {"text": " \n"},
        r"text=' \n': is empty; write some text, or remove the record",
    ),
    "empty explicit prompt": (
        parse_comparison,
        {"prompt": "", "chosen": "a", "rejected": "b"},
        "prompt='': is empty; write some text, or remove the record",
    ),
    "half a surrogate pair": (
        parse_prompt,
        {"prompt": "a\ud83d"},
        (
            r"prompt='a\ud83d': holds half of a surrogate pair, which is no character; "
            r"remove the lone \ud800 to \udfff"
        ),
    ),
    "object for messages": (
        parse_demonstration,
        {"messages": {"role": ["user"], "content": ["Hello"]}},
        (
            "messages={'role': ['user'], 'content': ['Hello']}: is an object, neither text nor a "
            "list "
            'of messages; write a string, or [{"role": …, "content": …}, …]'
        ),
    ),
    "no messages": (
        parse_demonstration,
        {"messages": []},
        "messages=[]: is empty; add messages, or remove the record",
    ),
    "message is no object": (
        parse_prompt,
        {"prompt": ["Hello"]},
        f"prompt[0]='Hello': is text, not a message; {FIX_MESSAGE}",
    ),
    "message without role": (
        parse_prompt,
        {"prompt": [{"content": "Hello"}]},
        "prompt[0]={'content': 'Hello'}: lacks 'role'; add 'role'",
    ),
    "message without content": (
        parse_prompt,
        {"prompt": [{"role": "user", "content": None}]},
        "prompt[0]={'role': 'user', 'content': None}: lacks 'content'; add 'content'",
    ),
    "unknown role": (
        parse_prompt,
        {"prompt": [{"role": "human", "content": "Hello"}]},
        "prompt[0].role='human': is unknown; use one of system, user, assistant",
    ),
    "role is no text": (
        parse_prompt,
        {"prompt": [{"role": ["user"], "content": "Hello"}]},
        "prompt[0].role=['user']: is unknown; use one of system, user, assistant",
    ),
    "empty message": (
        parse_prompt,
        {"prompt": [HELLO, {"role": "user", "content": ""}]},
        "prompt[1].content='': is empty; write some text, or remove the record",
    ),
    "assistant opens": (
        parse_demonstration,
        {"messages": [HI, HELLO]},
        (
            "messages[0].role='assistant': opens the conversation, so that nothing prompts it; "
            "begin with a message of the system or the user"
        ),
    ),
    "nobody answers": (
        parse_demonstration,
        {"messages": [BRIEF, HELLO]},
        (
            "messages=['system', 'user']: holds no message of the assistant, so that there is "
            "nothing to learn; add the assistant's answer, or remove the record"
        ),
    ),
    "completion of the user": (
        parse_demonstration,
        {"prompt": [HELLO], "completion": [HELLO]},
        (
            "completion=['user']: does not end with a message of the assistant; "
            "end it with the assistant's answer"
        ),
    ),
    "text prompt, conversational completion": (
        parse_demonstration,
        {"prompt": "Hello", "completion": [HI]},
        (
            "is conversational where prompt is text; "
            "write both as strings or both as lists of messages"
        ),
    ),
    "text prompt beside conversations, as UltraFeedback": (
        parse_comparison,
        {"prompt": "Hello", "chosen": [HELLO, HI], "rejected": [HELLO, GO]},
        (
            "is conversational where prompt is text; write both as strings or both as lists of "
            "messages, or leave out a prompt that both responses repeat"
        ),
    ),
    "no rejected": (
        parse_comparison,
        {"chosen": "a"},
        "fields=['chosen']: lack 'rejected'; add 'rejected', or remove the record",
    ),
    "same responses": (
        parse_comparison,
        {"chosen": "a", "rejected": "a"},
        "rejected='a': is the same as chosen; remove the record: it prefers nothing",
    ),
    "same conversations": (
        parse_comparison,
        {"chosen": [HELLO, HI], "rejected": [HELLO, HI]},
        "is the same as chosen; remove the record: it prefers nothing",
    ),
    "no shared prompt": (
        parse_comparison,
        {"chosen": [HELLO, HI], "rejected": [BRIEF, HI]},
        (
            "rejected[0]='Be brief': is not chosen's first message: they share no prompt; "
            "begin both with the same messages, or add `prompt`"
        ),
    ),
    "no response": (
        parse_comparison,
        {"chosen": [HELLO, HI], "rejected": [HELLO]},
        (
            "rejected=['user']: ends where the shared messages end: it holds no response; "
            "add the assistant's answer, or remove the record"
        ),
    ),
    "response of the user": (
        parse_comparison,
        {"chosen": [HELLO, HI], "rejected": [HELLO, GO, HELLO]},
        (
            "rejected=['assistant', 'user']: does not end with a message of the assistant; "
            "end it with the assistant's answer"
        ),
    ),
    "one conversation continues the other": (
        parse_comparison,
        {"chosen": [HELLO, HI], "rejected": [HELLO, HI, HELLO]},
        (
            "chosen=['user', 'assistant']: ends where the shared messages end: it holds no "
            "response; add the assistant's answer, or remove the record"
        ),
    ),
    "prompt said twice": (
        parse_comparison,
        {"prompt": [HELLO], "chosen": [HELLO, HI], "rejected": [HELLO, GO]},
        "chosen=['user', 'assistant']: repeats the prompt's messages; leave the prompt out, or",
    ),
    "prompt said twice by rejected alone": (
        parse_comparison,
        {"prompt": [HELLO], "chosen": [HI], "rejected": [HELLO, GO]},
        "rejected=['user', 'assistant']: repeats the prompt's messages; leave the prompt out, or",
    ),
    "annotations are no list": (
        parse_comparison,
        {**UNRATED, "annotations": {"ann": "chosen"}},
        (
            "annotations={'ann': 'chosen'}: is an object, not a list; "
            'write [{"annotator": …, "choice": …}, …]'
        ),
    ),
    "annotation is no object": (
        parse_comparison,
        {**UNRATED, "annotations": ["chosen"]},
        (
            "annotations[0]='chosen': is text, not an annotation; "
            'write {"annotator": …, "choice": …}'
        ),
    ),
    "annotation without annotator": (
        parse_comparison,
        {**UNRATED, "annotations": [{"choice": "tie"}]},
        "annotations[0]={'choice': 'tie'}: lacks 'annotator'; add 'annotator'",
    ),
    "annotator is a number": (
        parse_comparison,
        {**UNRATED, "annotations": [{"annotator": 1, "choice": "tie"}]},
        "annotations[0].annotator=1: is a number, not text; write a string",
    ),
    "unknown choice": (
        parse_comparison,
        {**UNRATED, "annotations": [{"annotator": "ann", "choice": "A"}]},
        "annotations[0].choice='A': is unknown; use one of chosen, rejected, tie",
    ),
    "annotator chooses twice": (
        parse_comparison,
        {**UNRATED, "annotations": [{"annotator": "ann", "choice": c} for c in ("chosen", "tie")]},
        (
            "annotations[1].annotator='ann': has chosen before in this record; "
            "keep one choice per annotator"
        ),
    ),
    "no prompt": (
        parse_prompt,
        {"text": "a"},
        "fields=['text']: lack 'prompt'; add 'prompt', or remove the record",
    ),
    "answered prompt": (
        parse_prompt,
        {"prompt": [HELLO, HI]},
        (
            "prompt[1].role='assistant': leaves nothing to respond to; "
            "end the prompt with a message of the user"
        ),
    ),
}


@pytest.mark.parametrize(
    ("parse", "row", "record", "spelling"), ACCEPTED.values(), ids=ACCEPTED.keys()
)
def test_parse_row_gives_record_and_format(
    parse: Parse, row: Row, record: Record, spelling: str
) -> None:
    parsed = parse("f:1", row)
    assert parsed.record == record
    assert parsed.format == spelling
    assert parsed.fields <= row.keys()


@pytest.mark.parametrize(("parse", "row", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_parse_wrong_row_says_what_and_how_to_mend_it(parse: Parse, row: Row, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse("f:1", row)
    assert message in str(caught.value)


def test_parse_leaves_further_fields_alone() -> None:
    parsed = parse_comparison("f:1", {"chosen": "a", "rejected": "b", "score": 3, "id": "x"})
    assert parsed.fields == {"chosen", "rejected"}


def test_parse_messages_beside_prompt_reads_messages_only() -> None:
    parsed = parse_demonstration("f:1", {"prompt": "Hello", "messages": [HELLO, HI]})
    assert parsed.fields == {"messages"}
