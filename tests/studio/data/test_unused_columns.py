"""Nothing with content disappears from a row without use, warning or error."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.data.columns import has_content, is_bookkeeping, normalized
from studio.data.detect import choose_format, detect
from studio.data.reading.source import SourceRow
from studio.errors import StudioError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
FILE = Path("rows.jsonl")
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def read(
    row: dict[str, Any], format_id: str = "auto", *, ignored: list[str] | None = None, **own: Any
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The format, the canonical row, and what is not used."""
    given = SourceRow(1, row, 0)
    chosen = choose_format(FILE, format_id, own, [given], FORMATS, ignored=ignored or [])
    canonical, unused = chosen.read(given, FILE)
    return chosen.variant.id, canonical, unused


def texts(canonical: Any) -> str:
    return json.dumps(canonical, ensure_ascii=False)


@pytest.mark.parametrize(
    ("row", "format_id", "unused"),
    [
        ({"messages": CHAT, "mood": "calm"}, "messages", ("mood",)),
        ({"messages": CHAT, "mood": "", "note": None, "list": [], "nan": float("nan")}, "messages", ()),
        ({"messages": [{**CHAT[0], "mood": "calm"}, CHAT[1]]}, "messages", ("messages[].mood",)),
        ({"messages": CHAT, "prompt": "Hi", "prompt_id": "x1", "createdAt": 3}, "messages", ()),
        ({"text": "All of it.", "title": "A title"}, "text", ("title",)),
        ({"prompt": "a", "completion": "b", "Category": "c"}, "prompt_completion", ("Category",)),
        ({"question": "a", "answers": ["b", "c"], "context": "d"}, "question_answer", ("answers: all but the first",)),
        ({"question": "a", "answers": ["b", "b"], "context": "d"}, "question_answer", ()),
        ({"translation": {"en": "a", "de": "b", "fr": "c"}}, "pairs", ("translation.fr",)),
    ],
)  # fmt: skip
def test_what_is_not_used_is_named(
    row: dict[str, Any], format_id: str, unused: tuple[str, ...]
) -> None:
    assert read(row)[::2] == (format_id, unused)


@pytest.mark.parametrize(
    ("row", "format_id", "words"),
    [
        ({"text": "an article", "summary": "short"}, "text", "a summary in “summary”"),
        ({"messages": CHAT, "images": ["a.png"]}, "messages", "images in “images”, which this program cannot train on"),
        ({"messages": CHAT, "Audio_Path": "a.wav"}, "messages", "audio in “Audio_Path”"),
        ({"messages": [{**CHAT[0], "images": ["a.png"]}, CHAT[1]]}, "messages", "images in “messages\\[\\].images”"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "history": [["d", "e"]]}, "preference", "turns in “history”"),
        ({"text": "a", "label": "b", "Reasoning": "c"}, "classification", "reasoning in “Reasoning”"),
        ({"prompt": "a", "completion": "b", "label": True, "video": "v.mp4"}, "kto", "videos in “video”"),
    ],
)  # fmt: skip
def test_content_that_cannot_be_used_is_refused_until_it_is_ignored(
    row: dict[str, Any], format_id: str, words: str
) -> None:
    with pytest.raises(StudioError, match=words) as caught:
        read(row, format_id)
    assert "“Ignored columns”" in str(caught.value.hint)
    assert caught.value.line == 1
    names = ["summary", "images", "audio path", "history", "reasoning", "video"]
    assert read(row, format_id, ignored=names)[2] == ()


@pytest.mark.parametrize(
    "columns", [("text", "summary"), ("text", "role"), ("text", "parent_id"), ("text", "answer")]
)
def test_text_beside_other_content_is_not_taken_for_plain_text(columns: tuple[str, ...]) -> None:
    row = {c: f"some {c}" for c in columns}
    found = detect([SourceRow(1, row, 0)], FORMATS)
    assert found[0][0].id != "text" or found[0][1].confidence == 0


@pytest.mark.parametrize(
    "mark",
    [
        "<image>",
        "<|image|>",
        "<video>",
        "<audio>",
        "<image_1>",
        "<|image_pad|>",
        "<|vision_start|>",
        "<start_of_image>",
        "<|image_1|>",
        "[IMG]",
        "<|AUDIO|>",
    ],
)
@pytest.mark.parametrize("format_id", ["messages", "prompt_completion"])
def test_a_mark_for_an_image_is_refused_by_name(mark: str, format_id: str) -> None:
    text = f"{mark}\nWhat is this?"
    row: dict[str, Any] = {"prompt": text, "completion": "A cat."}
    if format_id == "messages":
        row = {"messages": [{"role": "user", "content": text}, CHAT[1]]}
    with pytest.raises(StudioError, match=re.escape(f"has the mark “{mark}”")):
        read(row, format_id)
    assert texts(text)[1:-1] in texts(read(row, format_id, ignored=[mark])[1])


@pytest.mark.parametrize(
    "text",
    [
        "<image><url>a.png</url></image>",
        "a <video> tag: <video></video>",
        "x <imagine>",
        "[img]a.png[/img]",
    ],
)
def test_markup_is_not_a_mark_for_an_image(text: str) -> None:
    row = {"messages": [{"role": "user", "content": text}, CHAT[1]]}
    assert read(row, "messages")[1]["messages"][0]["content"] == text


def test_an_empty_column_setting_ignores_the_column() -> None:
    row = {"messages": CHAT, "system": "Be brief."}
    assert read(row, "messages", system_column="")[1:] == ({"messages": CHAT}, ())
    assert read(row, "messages")[1]["messages"][0] == {"role": "system", "content": "Be brief."}


# ------------------------------------------------------------------ 300 random rows per format

_BASE: dict[str, dict[str, Any]] = {
    "messages": {"messages": CHAT},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
    "prompt_completion": {"prompt": "Hi there", "completion": "Hello"},
    "instruction": {"instruction": "Hi there", "output": "Hello"},
    "question_answer": {"question": "Hi there", "answer": "Hello"},
    "classification": {"text": "Hi there", "label": "greeting"},
    "pairs": {"source": "Hi there", "target": "Hello"},
    "function_calling": {"query": "Hi", "tools": [{"name": "f"}], "answers": [{"name": "f", "arguments": {}}]},
    "preference": {"prompt": "Hi there", "chosen": "Hello", "rejected": "No"},
    "kto": {"prompt": "Hi there", "completion": "Hello", "label": True},
    "text": {"text": "Hi there"},
}  # fmt: skip
_EXTRA = [
    "system",
    "System_Prompt",
    "systemMessage",
    "history",
    "chat_history",
    "tools",
    "functions",
    "images",
    "image_url",
    "audio",
    "video",
    "summary",
    "highlights",
    "reasoning",
    "cot",
    "Complex_CoT",
    "rationale",
    "thinking",
    "mood",
    "category",
    "title",
    "score",
    "notes",
    "difficulty",
    "topic",
    "comment",
    "extra_text",
    "subject",
    "weather",
    "answer",
    "response",
    "context",
    "input",
    "passage",
    "label",
]
_VALUES: list[Any] = [
    "ZQX text {n}",
    {"inner": "ZQX {n}"},
    ["ZQX {n}", "and more"],
    [["ZQX {n}", "b"]],
    7.25,
]


def extras(rng: random.Random, taken: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Random columns with content that the row does not have yet."""
    known = {normalized(n) for n in taken}
    for name in rng.sample(_EXTRA, rng.randrange(1, 4)):
        if normalized(name) not in known:
            known.add(normalized(name))
            value = rng.choice(_VALUES)
            yield name, json.loads(json.dumps(value).replace("{n}", str(rng.randrange(10**6))))


@pytest.mark.parametrize("format_id", sorted(_BASE))
def test_nothing_with_content_disappears(format_id: str) -> None:
    """A column's content is in the canonical row, or its name in a warning or in the error."""
    rng = random.Random(format_id)
    for _ in range(300):
        row = dict(_BASE[format_id])
        added = dict(extras(rng, row))
        row |= added
        try:
            _, canonical, unused = read(row, format_id)
        except StudioError:
            continue  # refused: nothing is trained without it
        for name, value in added.items():
            assert has_content(value)
            assert not is_bookkeeping(name)
            marks = [
                w for w in texts(value).replace('"', " ").split() if w.isdigit() or w == "7.25"
            ]
            used = all(m in texts(canonical) for m in marks)
            named = [u.partition(":")[0] for u in unused]
            assert used or name in named, (row, canonical, unused)


@pytest.mark.parametrize("format_id", sorted(_BASE))
def test_nothing_inside_messages_disappears(format_id: str) -> None:
    rng = random.Random(format_id)
    lists = [(n, v) for n, v in _BASE[format_id].items() if n in ("messages", "conversations")]
    for _ in range(100 if lists else 0):
        name, turns = lists[0]
        key = rng.choice(_EXTRA)
        if key in ("reasoning", "thinking", "label", "tools"):
            continue
        row = {name: [{**turns[0], key: "ZQX"}, *turns[1:]]}
        try:
            _, canonical, unused = read(row, format_id)
        except StudioError:
            continue
        assert "ZQX" in texts(canonical) or f"{name}[].{key}" in unused, (row, canonical)
