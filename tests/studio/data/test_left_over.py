"""What has no role in a file, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from studio.data.detect import choose_format
from studio.data.left_over import left_over
from studio.data.reading.source import SourceRow
from studio.errors import StudioError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
FILE = Path("rows.jsonl")
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def reasons(
    rows: Sequence[dict[str, Any]],
    format_id: str = "auto",
    *,
    shown: int = 8,
    ignored: Sequence[str] = (),
    also_used: Sequence[str] = (),
    **own: Any,
) -> dict[str, str]:
    """The names without a role, with their reasons; the first ``shown`` rows are converted."""
    given = [SourceRow(n, row, 0, FILE) for n, row in enumerate(rows, start=1)]
    chosen = choose_format(
        FILE, format_id, own, given, FORMATS, also_used=also_used, ignored=ignored
    )
    converted = []
    for row in given[:shown]:
        try:
            converted.append((row, chosen.canonical(row, FILE)))
        except StudioError:
            converted.append((row, None))
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return {x.name: x.reason for x in left_over(chosen, columns, converted, given)}


@pytest.mark.parametrize(
    ("row", "options", "found"),
    [
        ({"prompt": "a", "completion": "b"}, {}, {}),
        ({"prompt": "a", "completion": "b", "topic": "c"}, {}, {"topic": "unused"}),
        ({"prompt": "a", "completion": "b", "topic": None}, {}, {"topic": "empty"}),
        ({"prompt": "a", "completion": "b", "id": 3}, {}, {"id": "bookkeeping"}),
        ({"prompt": "a", "completion": "b", "Topic": "c"}, {"ignored": ["topic"]}, {"Topic": "ignored"}),
        ({"prompt": "a", "completion": "b", "part": "c"}, {"also_used": ["part"]}, {"part": "split"}),
        ({"messages": CHAT, "prompt": "Hi"}, {}, {"prompt": "repeated"}),
        ({"messages": CHAT, "system": "s"}, {"system_column": ""}, {"system": "declined"}),
        ({"messages": CHAT, "images": ["a.png"]}, {}, {"images": "refused"}),
        ({"messages": CHAT, "images": ["a.png"]}, {"ignored": ["images"]}, {"images": "ignored"}),
        ({"messages": [{**CHAT[0], "mood": "x"}, CHAT[1]]}, {}, {"messages[].mood": "unused"}),
        ({"messages": [{**CHAT[0], "mood": "x"}, CHAT[1]]}, {"ignored": ["mood"]}, {"messages[].mood": "ignored"}),
        ({"messages": [{"role": "user", "content": "See <image>"}, CHAT[1]]}, {}, {"<image>": "refused"}),
        ({"messages": [{"role": "user", "content": "See <image>"}, CHAT[1]]}, {"ignored": ["<image>"]},
         {"<image>": "ignored"}),
        ({"a": "b", "c": "d"}, {"format_id": "custom", "user_template": "{{ a }}", "assistant_template": "x"},
         {"a": "template", "c": "unused"}),
        ({"q": "b", "a": "d", "id": 1}, {"format_id": "question_answer"},
         {"q": "unused", "a": "unused", "id": "bookkeeping"}),
    ],
)  # fmt: skip
def test_the_reason_of_each_name(
    row: dict[str, Any], options: dict[str, Any], found: dict[str, str]
) -> None:
    assert reasons([row], **options) == found


def test_rows_that_are_not_converted_are_searched_too() -> None:
    plain = {"messages": CHAT, "prompt": "Hi"}
    late = {"messages": [{**CHAT[0], "mood": "x"}, CHAT[1]], "prompt": "Hi", "video": "v.mp4"}
    found = {"prompt": "repeated", "video": "refused", "messages[].mood": "unused"}
    assert reasons([plain, plain, late], shown=2) == found


def test_the_error_is_that_of_the_first_refused_row() -> None:
    rows = [{"messages": CHAT}, {"messages": CHAT, "images": ["a.png"]}]
    given = [SourceRow(n, row, 0, FILE) for n, row in enumerate(rows, start=1)]
    chosen = choose_format(FILE, "auto", {}, given, FORMATS)
    (left,) = left_over(chosen, ("messages", "images"), [], given)
    with pytest.raises(StudioError) as caught:
        chosen.read(given[1], FILE)
    assert left.error is not None
    assert (left.error.sentence, left.error.hint) == (caught.value.sentence, caught.value.hint)
    assert left.error.line == 2
