"""Whatever a row holds, a format gives a whole canonical row or one sentence; it never breaks.

Rows are made at random from the names and values that the formats look for, so that most of them
are nearly right. Plain random and not hypothesis: thousands of nested rows in a second.
"""

from __future__ import annotations

import random
from datetime import date
from typing import Any

import pytest

from studio.data.detect import detect
from studio.data.reading.source import SourceRow
from studio.data.row_format import RowError
from studio.graph.registry import load_registry

FORMATS = {
    k: v
    for k, v in load_registry().variants["format"].items()
    if k not in ("custom", "chat_export")
}
NAMES = sorted(
    {
        n
        for v in FORMATS.values()
        for f, other in v.payload.columns.items()
        for n in (v.settings.model_fields[f].default, *other)
    }
    | {"gone"}
)
KEYS = [
    "role",
    "content",
    "from",
    "value",
    "text",
    "label",
    "type",
    "name",
    "arguments",
    "function",
    "tool_calls",
    "weight",
    "train",
    "tool_call_id",
]
ROLES = ["user", "assistant", "system", "tool", "gpt", "human", "function_call", "x"]
LEAVES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    27,
    0.0,
    1.5,
    float("nan"),
    float("inf"),
    b"raw",
    date(2024, 1, 2),
    "",
    " ",
    "a",
    "b",
    "user",
    "0",
    "B",
    "true",
    "[",
    "[]",
    "{}",
    "\ud800",
    "a\x00",
    '[{"role": "user", "content": "a"}]',
    '{"name": "f", "arguments": "{}"}',
    "[" * 3000,
    "Human: a\n\nAssistant: b",
    "Human: a\n\nAssistant: c",
    "USER: a\nASSISTANT: b",
    'USER: a\nASSISTANT: <functioncall> {"name": "f", "arguments": \'{}\'}',
]
PARTS = {"messages", "tools", "prompt", "completion", "text", "chosen", "rejected", "label"}


def message(rng: random.Random) -> dict[str, Any]:
    """A message that is mostly right."""
    role, content = rng.choice([("role", "content"), ("from", "value")])
    made = {role: rng.choice(ROLES), content: rng.choice(["a", "b", value(rng, 1)])}
    if rng.random() < 0.3:
        made[rng.choice(KEYS)] = value(rng, 1)
    return made


def value(rng: random.Random, depth: int = 3) -> Any:
    """A value of a column: text, messages, or something nested and odd."""
    kind = rng.random()
    if depth == 0 or kind < 0.45:
        return rng.choice(LEAVES)
    if kind < 0.75:
        return [message(rng) for _ in range(rng.randrange(4))]
    if kind < 0.88:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): value(rng, depth - 1) for _ in range(rng.randrange(4))}


def row_for(rng: random.Random, usual: list[str]) -> dict[str, Any]:
    """The first usual columns, most of the time, and some others."""
    names = [n for i, n in enumerate(usual) if rng.random() < (0.95 if i < 2 else 0.2)]
    names += rng.sample(NAMES, rng.randrange(3))
    return {name: value(rng) for name in names}


@pytest.mark.parametrize("format_id", sorted(FORMATS))
def test_a_row_or_a_sentence(format_id: str) -> None:
    variant, rng = FORMATS[format_id], random.Random(format_id)
    usual = [variant.settings.model_fields[f].default for f in variant.payload.columns]
    whole = 0
    for _ in range(3000):
        row = row_for(rng, usual)
        found, failure = {}, None
        try:
            found = variant.payload.convert(row, variant.settings())
        except RowError as error:
            failure = error
        whole += failure is None
        assert failure is None or (
            failure.what and "\n" not in failure.what and failure.hint.endswith(".")
        ), row
        check_canonical(found)
    assert 0 < whole < 2900, whole


def check_canonical(found: dict[str, Any]) -> None:
    assert set(found) <= PARTS
    for name in ("messages", "chosen", "rejected"):
        for said in found.get(name, ()):
            assert said["role"] in ("system", "user", "assistant", "tool")
            assert isinstance(said["content"], str)
            assert said["content"].isprintable() or said["content"].encode("utf-8")
            assert 0 <= said.get("weight", 1) <= 1e6


def test_detection_judges_anything() -> None:
    rng = random.Random("rows")
    for _ in range(1500):
        rows = [row_for(rng, rng.sample(NAMES, 3)) for _ in range(rng.randrange(4))]
        for _, found in detect([SourceRow(1, r, 0) for r in rows], FORMATS):
            assert 0 <= found.confidence <= 1
            assert bool(found.reason) == (found.confidence > 0)
