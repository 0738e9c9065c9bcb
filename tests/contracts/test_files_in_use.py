"""Files are renamed, replaced and deleted by ``studio.system.busy_files`` only, and safetensors files are read and
written without mapping them: on Windows, anything else fails while a file is in use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = {"studio/system/busy_files.py", "studio/training/saved/tensor_files.py"}
EXCEPT = {
    "studio/runs/lock.py",  # something else than a file in the place of the lock
}
CALLS = {
    "os": {"rename", "replace", "remove", "unlink", "renames", "removedirs"},
    "shutil": {"rmtree", "move"},
}
METHODS = {"unlink", "rename"}
MAPPING = {"load_file", "save_file"}


def direct(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that change a file directly, or map one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, owner = node.func.attr, ast.unparse(node.func.value)
            if name in CALLS.get(owner, ()) or (
                name in METHODS and owner not in ("busy_files", "os")
            ):
                yield node.lineno, f"{owner}.{name}"
        if isinstance(node, ast.ImportFrom) and node.module == "safetensors.torch":
            yield from ((node.lineno, a.name) for a in node.names if a.name in MAPPING)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("safe_open"):
            named = {k.arg for k in node.keywords}
            yield from [] if "backend" in named else [(node.lineno, "safe_open without backend")]


@pytest.mark.parametrize("folder", ["studio", "workers", "ui"])
def test_files_are_changed_in_one_place(folder: str) -> None:
    found = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        if name not in OWN | EXCEPT:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [f"{name}:{line}: {what}" for line, what in direct(tree)]
    assert found == [], "use studio.system.busy_files or studio.training.saved.tensor_files"


@pytest.mark.parametrize(
    "source",
    [
        "os.replace(a, b)",
        "shutil.rmtree(a, ignore_errors=True)",
        "path.unlink()",
        "path.parent.rename(other)",
        "from safetensors.torch import load_file",
        "safe_open(path, framework='pt')",
    ],
)
def test_the_check_sees_a_direct_call(source: str) -> None:
    assert list(direct(ast.parse(source)))


def test_the_check_sees_nothing_else() -> None:
    source = "busy_files.rename(a, b); text.replace('a', 'b'); safe_open(p, backend='pread')"
    assert list(direct(ast.parse(source))) == []
