"""Cut whole-word openings off snippets: the prompts that the policy continues."""

from movie_reviews.ordering import shuffle_key

OPENING_WORDS = (3, 4, 5)
"""Lengths of an opening, in words; which one a snippet gets follows a hash of its text."""

LEAST_REMAINING_WORDS = 6
"""A snippet that ends sooner after its opening tells too little about how to go on."""


def opening_of(text: str) -> str | None:
    """Return the first three to five words, or None where the snippet is too short for one."""
    words = text.split()
    length = OPENING_WORDS[shuffle_key(text)[0] % len(OPENING_WORDS)]
    if len(words) < length + LEAST_REMAINING_WORDS:
        return None
    return " ".join(words[:length])


def openings(texts: list[str]) -> list[str]:
    """Collect the different openings of `texts`, in order of appearance."""
    found = (opening_of(text) for text in texts)
    return list(dict.fromkeys(opening for opening in found if opening is not None))
