import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.data.records import Message, Role, Text, digest

messages = st.lists(st.builds(Message, st.sampled_from(Role), st.text(max_size=4)), max_size=3).map(
    tuple
)
texts: st.SearchStrategy[Text] = st.text(max_size=4) | messages
parts = st.lists(texts, max_size=3).map(tuple)


@given(parts, parts)
def test_digest_of_different_parts_differs(one: tuple[Text, ...], other: tuple[Text, ...]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_digest_moves_no_text_between_parts() -> None:
    assert digest(("ab", "c")) != digest(("a", "bc"))
    assert digest(("ab",)) != digest(("a", "b"))


def test_digest_is_the_same_in_another_process() -> None:
    code = "from rlhf_trainer.data.records import digest; print(digest(('prompt', 'é')))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
    ).stdout
    assert int(output) == digest(("prompt", "é"))
