"""Tell whether a text holds a swear word or a slur.

The example shows texts to people, so such snippets are left out of everything that is shown or
trained on. The list is short and blunt: it spares readers, it does not moderate anything.
"""

import codecs
import re

_STEMS_ROT13 = (
    "shpx shpxva fuvg ohyyfuvg ovgpu phag nffubyr nff nffrf wnpxnff qhznff wvfz onfgneq qvyqb juber "
    "fyhg chffl gvgf gvggvrf obbof cbea cravf intvan znfgheo betnfz betl fcrez fperjrq cvff penc "
    "grfgvpyr fpebghz sryyngvb fbqbz cebfgvghg uneqpber snttbg snt qlxr avttre avttn ergneq fcvp "
    "genaal xvxr puvax jrgonpx tbbx enpvfg"
).split()
"""Stems, in ROT13 so that the source stays polite. A word that starts with a long stem counts."""

_WHOLE_WORD_UP_TO = 4
"""Stems of at most so many letters match whole words only: "ass" must not match "assume"."""


def _pattern(stems: list[str]) -> re.Pattern[str]:
    whole = "|".join(stem for stem in stems if len(stem) <= _WHOLE_WORD_UP_TO)
    starts = "|".join(stem for stem in stems if len(stem) > _WHOLE_WORD_UP_TO)
    return re.compile(rf"\b(?:(?:{whole})|(?:{starts})\w*)\b", re.IGNORECASE)


_PROFANE = _pattern([codecs.decode(stem, "rot13") for stem in _STEMS_ROT13])


def is_profane(text: str) -> bool:
    """Return whether any word of `text` is on the list."""
    return _PROFANE.search(text) is not None
