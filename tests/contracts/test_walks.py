"""The walks in ARCHITECTURE.md: their files exist, follow one another in the code and are counted right."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARKS = ("(signal)", "(callback)", "(file)", "(process)", "(registry)")
FORMER = (29, 45, 17)
"""How many files the same walks had before the rooms were laid out by idea."""


def walks() -> list[tuple[str, list[tuple[str, str]]]]:
    """Heading, and file and line of each entry, of the three walks."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("## Three walks\n")[2].partition("\n## ")[0]
    found = []
    for part in section.split("\n### ")[1:]:
        heading, _, rest = part.partition("\n")
        found.append((heading, re.findall(r"^1\. `([^`]+)`: (.+)$", rest, re.MULTILINE)))
    return found


WALKS = walks()
BY_HEADING = pytest.mark.parametrize(("heading", "entries"), WALKS, ids=[h for h, _ in WALKS])


@cache
def imported(file: str) -> set[str]:
    """The files that a file imports, also inside a function."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.replace(".", "/") + ".py" for name in names}


def test_there_are_three_walks_shorter_than_before() -> None:
    assert len(WALKS) == len(FORMER)
    assert all(len(entries) < most for (_, entries), most in zip(WALKS, FORMER, strict=True))


@BY_HEADING
def test_the_heading_counts_its_files(heading: str, entries: list[tuple[str, str]]) -> None:
    assert heading.endswith(f": {len(entries)} files")
    assert len({file for file, _ in entries}) == len(entries)


@BY_HEADING
def test_every_file_exists(heading: str, entries: list[tuple[str, str]]) -> None:
    assert [file for file, _ in entries if not (ROOT / file).is_file()] == []


@BY_HEADING
def test_every_file_is_reached_from_one_before_it(
    heading: str, entries: list[tuple[str, str]]
) -> None:
    """An import between the file and an earlier one, in either direction, or a mark in its line."""
    lost = []
    for place, (file, line) in enumerate(entries[1:], start=1):
        before = [earlier for earlier, _ in entries[:place]]
        linked = imported(file) & set(before) or any(file in imported(b) for b in before)
        if not linked and not line.endswith(MARKS):
            lost.append(file)
    assert lost == []
