"""Rooms depend on one another in one direction, and leave each other's private names alone. A cycle
inside a room has a comment that says why.

A room is ``studio/NAME``, ``studio/training/NAME`` or ``ui/NAME``. Imports inside functions and under
TYPE_CHECKING count as well: a stranger has to read both files.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """``module`` of one room imports ``target``, a module or a name in one, of another room."""

    module: str
    line: int
    target: str


def room_of(module: str) -> str:
    """The room of a module; a loose file is a room of its own."""
    parts = module.split(".")
    return ".".join(parts[:3] if parts[:2] == ["studio", "training"] else parts[:2])


def imports(root: Path, *, inside: bool = False) -> Iterator[Import]:
    """All imports between rooms below ``root``, or all ``inside`` the rooms."""
    files = [p for top in ("studio", "ui") for p in sorted((root / top).rglob("*.py"))]
    names = {".".join(p.relative_to(root).with_suffix("").parts) for p in files}
    modules = names | {n.removesuffix(".__init__") for n in names}
    for path in files:
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in targets:
                found = target if target in modules else target.rpartition(".")[0]
                if found in modules and (room_of(found) == room_of(module)) is inside:
                    yield Import(module, node.lineno, target)


def room_of_target(target: str) -> str:
    """The room that an imported module or name belongs to."""
    return room_of(target)


def cycle(found: list[Import]) -> list[Import]:
    """Imports that close a cycle between rooms."""
    edges: dict[str, set[str]] = {}
    for i in found:
        edges.setdefault(room_of(i.module), set()).add(room_of_target(i.target))
    return [
        i
        for i in found
        if room_of_target(i.target) in edges.get(room_of(i.module), ())
        and room_of(i.module) in _reached(edges, room_of_target(i.target))
    ]


def _reached(edges: dict[str, set[str]], start: str) -> set[str]:
    reached, waiting = set(), [start]
    while waiting:
        room = waiting.pop()
        if room not in reached:
            reached.add(room)
            waiting += edges.get(room, ())
    return reached


def cycles_inside(root: Path) -> list[set[str]]:
    """The modules of each import cycle inside a room."""
    edges: dict[str, set[str]] = {}
    for i in imports(root, inside=True):
        is_module = root.joinpath(*i.target.split(".")).with_suffix(".py").is_file()
        target = i.target if is_module else i.target.rpartition(".")[0]
        if target != i.module:
            edges.setdefault(i.module, set()).add(target)
    reached = {m: {r for t in targets for r in _reached(edges, t)} for m, targets in edges.items()}
    cycles = {frozenset(n for n in r if m in reached.get(n, ())) for m, r in reached.items()}
    return [set(c) for c in cycles if c]


def says_why(root: Path, modules: set[str]) -> bool:
    """Whether a comment in one of the modules says why their cycle stays."""
    files = (root.joinpath(*m.split(".")).with_suffix(".py") for m in modules)
    return any("# Import cycle: " in f.read_text(encoding="utf-8") for f in files)


def private(found: list[Import]) -> list[Import]:
    """Imports of an underscore module or name of another room."""
    return [
        i
        for i in found
        if any(p.startswith("_") and not p.startswith("__") for p in i.target.split("."))
    ]


@pytest.fixture(scope="module")
def found() -> list[Import]:
    """The imports between the rooms of this project."""
    return list(imports(ROOT))


def test_no_cycle_between_rooms(found: list[Import]) -> None:
    assert cycle(found) == []


def test_no_private_name_of_another_room(found: list[Import]) -> None:
    assert private(found) == []


def test_cycles_inside_a_room_say_why() -> None:
    assert [c for c in cycles_inside(ROOT) if not says_why(ROOT, c)] == []


def test_a_cycle_inside_a_room_is_found(tmp_path: Path) -> None:
    texts = {
        "studio/a/one.py": "def f():\n    from studio.a.two import g\n",
        "studio/a/two.py": "from studio.a import three\n",
        "studio/a/three.py": "if TYPE_CHECKING:\n    from studio.a.one import f\n",
        "studio/a/four.py": "from studio.a import one\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (found,) = cycles_inside(tmp_path)
    assert found == {"studio.a.one", "studio.a.two", "studio.a.three"}
    assert not says_why(tmp_path, found)
    (tmp_path / "studio/a/two.py").write_text(
        "# Import cycle: x\nfrom studio.a import three\n", encoding="utf-8"
    )
    assert says_why(tmp_path, found)


def test_what_is_found_in_a_small_tree(tmp_path: Path) -> None:
    """A cycle through a function and a TYPE_CHECKING import, and two private names."""
    texts = {
        "studio/a/one.py": "def f():\n    from studio.b.two import g\n",
        "studio/b/two.py": "if TYPE_CHECKING:\n    from studio.c import three\n",
        "studio/c/three.py": "import studio.a.one\nfrom studio.d.four import _hidden\n",
        "studio/d/four.py": "from studio.d._own import x\nfrom studio.training.x._inner import y\n",
        "studio/d/_own.py": "",
        "studio/training/x/_inner.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = list(imports(tmp_path))
    assert {i.module for i in cycle(made)} == {
        "studio.a.one",
        "studio.b.two",
        "studio.c.three",
    }
    assert [i.target for i in private(made)] == [
        "studio.d.four._hidden",
        "studio.training.x._inner.y",
    ]
