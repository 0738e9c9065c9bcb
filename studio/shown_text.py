"""Text that was received, as it is shown: names, settings and paths of a project, a run or a data file.

Control characters could change what a terminal shows or does, and direction marks the order of what is read, so
both are escaped; long values are truncated. What is stored stays as it was.
"""

from __future__ import annotations

import re
import unicodedata

MOST_IN_QUOTES = 200
MOST_IN_SENTENCE = 1500
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = ("\u200c", "\u200d", "\u00ad")
"""Format characters that words and emoji need."""

_QUOTED = re.compile(f"“([^“”]{{{MOST_IN_QUOTES + 1},}})”")


def plain(text: str, keep: str = "") -> str:
    """The text with escaped control characters, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _is_hidden(c) else _escaped(c) for c in text)


def line(text: str, most: int = MOST_IN_SENTENCE) -> str:
    """The text as one line of at most ``most`` characters; line ends become spaces."""
    return short(plain(" ".join(text.splitlines()) if "\n" in text else text), most)


def short(text: str, most: int = MOST_IN_QUOTES) -> str:
    """The text, or its beginning and end."""
    if len(text) <= most:
        return text
    end = most // 5
    return f"{text[: most - end - 3]} … {text[-end:]}"


def sentence(text: str) -> str:
    """A sentence as one line, with long quoted values truncated."""
    if len(text) > MOST_IN_QUOTES:
        text = _QUOTED.sub(lambda found: f"“{short(found[1])}”", text)
    return line(text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
