"""Reads Modelfiles as Ollama does (``parser/parser.go``), and refuses what it refuses."""

from __future__ import annotations

COMMANDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty")
WHOLE = ("top_k", "num_ctx")


def _unquoted(text: str) -> str | None:
    """The value without its quotation marks; ``None`` if it does not end yet."""
    if text.startswith('"""'):
        return text[3:-3] if len(text) >= 6 and text.endswith('"""') else None
    if text.startswith('"'):
        return text[1:-1] if len(text) >= 2 and text.endswith('"') else None
    return text


def parse(text: str) -> list[tuple[str, str]]:
    """The commands and their values; a parameter has its own name as command. Raises ``ValueError``."""
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        if text[place] in " \t\n\r":
            place += 1
            continue
        if text[place] == "#":
            place = _end(text, place)
            continue
        word, place = _word(text, place)
        if word.lower() not in COMMANDS:
            raise ValueError(f"unknown command {word}")
        name = "model" if word.lower() == "from" else word.lower()
        if name == "parameter":
            name, place = _word(text, place)
        value, place = _value(text, place)
        if name in FLOATS:
            float(value)
        if name in WHOLE:
            int(value)
        found.append((name, value))
    if not any(name == "model" for name, _ in found):
        raise ValueError("no FROM line")
    return found


def _end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _word(text: str, place: int) -> tuple[str, int]:
    end = place
    while end < len(text) and text[end] not in " \t\n\r":
        end += 1
    if end >= len(text) or text[end] in "\n\r" or not text[place:end].replace("_", "").isalnum():
        raise ValueError(f"unexpected end after {text[place:end]}")
    return text[place:end], end + 1


def _value(text: str, place: int) -> tuple[str, int]:
    """A value ends at a line break before which its quotation marks are closed. Characters that cannot be printed
    are dropped, apart from white space."""
    end = _end(text, place)
    while (value := _unquoted(text[place:end].strip())) is None:
        if end >= len(text):
            raise ValueError("unexpected end of file")
        end = _end(text, end + 1)
    return "".join(c for c in value if c.isprintable() or c in "\n\t\r"), end
