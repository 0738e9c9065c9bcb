"""Text files and child processes are read and written in UTF-8, whatever the locale of the machine.

Why: Windows uses a code page of the country by default. ruff's PLW1514 sees only what it can infer the type of, and
no child processes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bootstrap", "studio", "workers", "ui", "tests", "benchmarks", "docs")
BINARY = ("os", "zipfile", "tarfile", "webbrowser", "archive", "file")
"""Owners of an `open` that takes no encoding; `file` is a ZIP archive in a test."""
COMPRESSED = ("gzip", "bz2", "lzma")
TEMPORARY = ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile")


def without_encoding(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open text in the encoding of the locale."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        named = {k.arg: k.value for k in call.keywords}
        if "encoding" not in named and None not in named and _is_text(call, named):
            yield call


def _is_text(call: ast.Call, named: dict[str | None, ast.expr]) -> bool:
    function = call.func
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) < 2
    if name in ("FileHandler", "RotatingFileHandler", "TextIOWrapper"):
        return True
    if name in TEMPORARY:
        return "b" not in _mode(named.get("mode", call.args[0] if call.args else None), "b")
    if name == "fdopen" or (name == "open" and owner in ("", "io")):
        return "b" not in _mode(named.get("mode", call.args[1] if len(call.args) > 1 else None))
    if name == "open" and owner in COMPRESSED:
        return "t" in _mode(named.get("mode", call.args[1] if len(call.args) > 1 else None))
    if name == "open" and owner not in BINARY and isinstance(function, ast.Attribute):
        mode = named.get("mode", call.args[0] if call.args else None)
        return mode is not None and _mode(mode, "b").strip("+t") in ("r", "w", "a", "x")
    return any(
        isinstance(value, ast.Constant) and value.value is True
        for key, value in named.items()
        if key in ("text", "universal_newlines")
    )


def _mode(mode: ast.expr | None, unknown: str = "r") -> str:
    """A mode as it is written; `unknown` where it is not, or not a constant."""
    return mode.value if isinstance(mode, ast.Constant) and isinstance(mode.value, str) else unknown


@pytest.mark.parametrize("folder", ["main.py", *FOLDERS])
def test_every_text_file_has_an_encoding(folder: str) -> None:
    path = ROOT / folder
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}"
        for file in files
        for call in without_encoding(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == [], "add encoding="


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "path.open('w')",
        "path.read_text()",
        "path.write_text('x', newline='')",
        "os.fdopen(handle, 'w')",
        "subprocess.run(command, text=True)",
        "tempfile.NamedTemporaryFile('w')",
        "gzip.open(path, 'rt')",
        "logging.FileHandler(path)",
    ],
)
def test_the_check_sees_a_missing_encoding(source: str) -> None:
    assert list(without_encoding(ast.parse(source)))
    comma = "" if source.endswith("()") else ", "
    assert not list(without_encoding(ast.parse(f"{source[:-1]}{comma}encoding='utf-8')")))


@pytest.mark.parametrize(
    "source", ["open(path, 'rb')", "path.open('rb')", "os.open(path, 1)", "dialog.open()"]
)
def test_binary_files_need_none(source: str) -> None:
    assert not list(without_encoding(ast.parse(source)))
