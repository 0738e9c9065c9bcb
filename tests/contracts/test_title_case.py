"""Buttons and menu entries are written in title case, as in Qt's own dialogs (“Restore Defaults”)."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKERS = ("QPushButton", "QAction", "addAction", "Choice")
SMALL = {"a", "an", "and", "as", "by", "for", "in", "of", "on", "the", "to", "with", "q", "v"}


def titles(source: str) -> list[str]:
    """The literal texts of buttons, choices and actions in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in MAKERS:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            found += [t for t in texts[-1:] if isinstance(t, str)]
    return found


def in_title_case(title: str) -> bool:
    """Whether every word but the small ones begins with a capital."""
    words = title.replace("&", "").split()
    return all(w[0].isupper() or not w[0].isalpha() or w in SMALL for w in words)


def test_buttons_and_menus_are_in_title_case() -> None:
    files = sorted((ROOT / "ui").rglob("*.py"))
    found = {t for file in files for t in titles(file.read_text(encoding="utf-8"))}
    assert {"Copy Path", "Next Finding", "Don't Save"} <= found
    assert [t for t in sorted(found) if not in_title_case(t)] == []
