"""Tell whether a text holds a swear word or a slur.

The example shows texts to people, so such snippets are left out of everything that is shown or
trained on. The list is short and blunt: it spares readers, it does not moderate anything.
"""

import codecs
import re

_WHOLE_WORDS_ROT13 = (
    "nff nffrf gvg gvgf obbo obbof cbea betl cvff cvffrq cvffrf penc penccl snt sntf fcvp "
    "xvxr phag phagf qlxr tbbx"
)
"""Matched as whole words only: polite words begin with them. ROT13 keeps the source polite."""

_STEMS_ROT13 = (
    "shpx fuvg ohyyfuvg ovgpu nffubyr wnpxnff qhzonff onfgneq qvyqb juber fyhg chffl gvggvrf "
    "znfgheo betnfz snttbg avttre avttn ergneq genaal jrgonpx sryyngvb cebfgvghg cravf intvan "
    "grfgvpy fpebghz"
)
"""Matched at the start of a word, whatever follows."""


def _alternatives(words_rot13: str) -> str:
    return "|".join(codecs.decode(words_rot13, "rot13").split())


_PROFANE = re.compile(
    rf"\b(?:(?:{_alternatives(_WHOLE_WORDS_ROT13)})\b|(?:{_alternatives(_STEMS_ROT13)}))",
    re.IGNORECASE,
)


def is_profane(text: str) -> bool:
    """Return whether any word of `text` is on the list."""
    return _PROFANE.search(text) is not None
