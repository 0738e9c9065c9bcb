"""The light rooms stay light: torch is imported only where training happens.

Why: the window must show before torch is loaded anywhere, and importing torch and its friends
takes about ten seconds. import-linter cannot tell an import in a function from one at the top of
a file; this test can.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = {"torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes"}
HEAVY_MODULES = {"safetensors.torch", "studio.training"}
TRAINING = ROOT / "studio" / "training"

LIGHT_STUDIO = [
    path for path in sorted((ROOT / "studio").rglob("*.py")) if TRAINING not in path.parents
]
WINDOW_SIDE = [path for room in ("workers", "ui") for path in sorted((ROOT / room).rglob("*.py"))]


def module_name(path: Path) -> str:
    """The dotted name under which a source file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level_imports(path: Path) -> Iterator[str]:
    """Modules that importing this file imports: not those in functions or for type checkers."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), _package(path))


def _package(path: Path) -> list[str]:
    return list(path.parent.relative_to(ROOT).parts)


def _imports(node: ast.AST, package: list[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imports(ast.Module([other], []), package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            module = ".".join([*base, *([child.module] if child.module else [])])
            yield from (f"{module}.{alias.name}" for alias in child.names)
        else:
            yield from _imports(child, package)


def is_heavy(module: str) -> bool:
    """Whether importing `module` loads torch or one of its friends."""
    return module.partition(".")[0] in HEAVY or any(
        module == name or module.startswith(name + ".") for name in HEAVY_MODULES
    )


def imported_by(modules: list[str]) -> set[str]:
    """Top-level packages in memory after a fresh interpreter imported these modules."""
    script = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.stdin.read()): importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(modules),
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("path", LIGHT_STUDIO + WINDOW_SIDE, ids=module_name)
def test_no_heavy_import_at_the_top_of_a_light_file(path: Path) -> None:
    assert [module for module in top_level_imports(path) if is_heavy(module)] == []


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    source = (
        "import json\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import peft\n"
        "try:\n    import transformers.models\nexcept ImportError:\n    pass\n"
        "from . import training\n"
        "class C:\n    from datasets import Dataset\n"
    )
    found = [module for module in _imports(ast.parse(source), ["studio"]) if is_heavy(module)]
    assert found == ["transformers.models", "studio.training", "datasets.Dataset"]


def test_every_light_studio_module_imports_without_torch_or_qt() -> None:
    loaded = imported_by([module_name(path) for path in LIGHT_STUDIO])
    assert loaded & (HEAVY | {"PySide6", "pyqtgraph", "workers", "ui"}) == set()


def test_the_window_and_its_workers_import_without_torch() -> None:
    loaded = imported_by([module_name(path) for path in WINDOW_SIDE])
    assert loaded & HEAVY == set()


def test_the_entry_imports_nothing_but_the_standard_library() -> None:
    loaded = imported_by(["main", "tests.__main__"]) - imported_by([])
    assert loaded - sys.stdlib_module_names == {"main", "tests", "bootstrap"}
