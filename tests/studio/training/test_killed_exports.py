"""A writer that is killed leaves the earlier result or the new one under its name, and what it leaves beside it is
removed by the next.

A kill runs no cleanup, so what is on the disk before each operation on files is what a kill at this moment leaves. Each
of these states is looked at, and from each kind of them the writer is run again. Kills of a process at random moments
prove the same for the time within an operation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from studio.export_folder import lm_studio
from studio.export_folder.archive import write_archive
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.node_settings.export import ExportSettings
from studio.runs.control import Control
from studio.runs.execute import execute
from studio.runs.folder import RunFolder
from studio.runs.plan import compile_plan
from studio.runs.sink import EventSink
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.file_operations import watched
from tests.small_disk import small_disk
from tests.studio.training.adapters import random_adapter, tiny_base
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_gguf_quantizer import needs_quantizer

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("quiet_transformers")
_TOKENS = re.compile(r"[0-9a-f]{8,}")


def digest(path: Path) -> str:
    """Names and bytes of a file or of everything in a folder; empty if there is nothing."""
    if not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()


@dataclass
class Seen:
    """What was under the name before each operation, and one copy of the folder for each kind of state."""

    place: Path
    target: Path
    copies: Path
    found: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    kinds: dict[tuple[str, ...], Path] = field(default_factory=dict)
    _last: tuple[Any, ...] = ()

    def look(self, call: str) -> None:
        """Remember the present state."""
        self.calls.append(call)
        listed = sorted(self.place.rglob("*"))
        states = [(p, p.stat().st_size, p.stat().st_mtime_ns) for p in listed if p.exists()]
        if tuple(states) == self._last:
            return
        self._last = tuple(states)
        now = digest(self.target)
        self.found.add(now)
        tops = sorted(_TOKENS.sub("*", p.name) for p in self.place.iterdir())
        kind = (*tops, now)
        if kind not in self.kinds:
            self.kinds[kind] = self.copies / str(len(self.kinds))
            shutil.copytree(self.place, self.kinds[kind])


def proven(root: Path, place: Path, target: Path, write: Callable[[str], Any]) -> Seen:
    """Write “Old”, then “New”, and from each kind of state in between “New” again."""
    write("Old")
    old = digest(target)
    names = sorted(os.listdir(place))
    seen = Seen(place, target, root / "copies")
    with watched(seen.look):
        write("New")
    new = digest(target)
    assert old != new
    assert sorted(os.listdir(place)) == names
    assert seen.found <= {old, new, ""}, "a half result under the name"
    for kind, copy in seen.kinds.items():
        empty(place)
        shutil.copytree(copy, place, dirs_exist_ok=True)
        if kind[-1] == "":  # between two renames: the earlier one is beside it
            assert any(name.endswith("-old") for name in os.listdir(place)), kind
        write("New")
        assert digest(target) == new, kind
        assert sorted(os.listdir(place)) == names, kind
    return seen


def empty(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    value = tiny_base(tmp_path_factory.mktemp("base"), layers=1)
    make_bpe_tokenizer().save_pretrained(value.path)
    return value


@pytest.fixture(scope="module")
def adapter(base: ModelValue, tmp_path_factory: pytest.TempPathFactory) -> AdapterValue:
    found = random_adapter(tmp_path_factory.mktemp("adapter"), base, use_rslora=True)
    make_bpe_tokenizer().save_pretrained(found.path)
    return found


EXPORTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "model": ("model", "safetensors", {}),
    "adapter": ("adapter", "safetensors", {}),
    "adapter as trained": ("adapter", "safetensors", {"form": "as_trained"}),
    "gguf": ("model", "gguf", {"quantizations": ["F16", "Q8_0"]}),
    "quantized": ("model", "gguf", {"quantizations": ["Q4_K_M"]}),
    "gguf adapter": ("adapter", "gguf", {"quantizations": ["F32"]}),
    "ollama": ("model", "ollama", {}),
    "ollama adapter": ("adapter", "ollama", {"quantization": "F16"}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_quantizer if n == "quantized" else ()) for n in EXPORTS]
)
def test_an_export_at_each_file_operation(
    name: str, base: ModelValue, adapter: AdapterValue, tmp_path: Path
) -> None:
    what, form, settings = EXPORTS[name]
    value = (adapter if what == "adapter" else base).to_json()
    place = tmp_path / "place"
    place.mkdir()

    def write(project: str) -> None:
        context = make_context(tmp_path / "out", Recorder())
        context.title, context.project_name = "Export", project
        chosen = ExportSettings(
            check_rows=0, folder=str(place / "talk"), format=form, format_settings=settings
        )
        export(context, value, chosen)

    seen = proven(tmp_path, place, place / "talk", write)
    assert {"mkdir", "rename", "rmdir", "unlink"} <= set(seen.calls)
    assert any(kind[-1] == "" for kind in seen.kinds), "the moment between the renames was seen"


def test_an_archive_at_each_file_operation(base: ModelValue, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()

    def write(project: str) -> None:
        folder = tmp_path / project
        if not folder.exists():
            shutil.copytree(base.path, folder)
            (folder / "README.md").write_text(project * 100, encoding="utf-8")
        write_archive(folder, place / "talk.zip")

    seen = proven(tmp_path, place, place / "talk.zip", write)
    assert "fsync" in seen.calls
    assert any(".talk.zip.*.part" in kind for kind in seen.kinds), "the unfinished archive was seen"


@pytest.mark.parametrize("linked", [True, False])
def test_a_model_for_lm_studio_at_each_file_operation(linked: bool, tmp_path: Path) -> None:
    def check(models: Path) -> None:
        def write(project: str) -> None:
            file = tmp_path / project / "talk-Q8_0.gguf"
            if not file.exists():
                file.parent.mkdir()
                file.write_bytes(project.encode() * 100_000)
            lm_studio.add_model(file, models)

        target = lm_studio.place_for(Path("talk-Q8_0.gguf"), models)
        target.parent.mkdir(parents=True)
        seen = proven(tmp_path, target.parent, target, write)
        assert any(".talk-Q8_0.gguf.*.part" in kind for kind in seen.kinds)
        assert ("fsync" in seen.calls) is not linked

    if linked:
        check(tmp_path / "models")
    else:
        with small_disk(tmp_path / "stick", 8000) as stick:
            check(stick)


def test_steps_that_write_models_at_each_file_operation(
    base: ModelValue, adapter: AdapterValue, tmp_path: Path
) -> None:
    """Load Adapter, Adapter Mix, Resize and Merge in a run: what a record names is whole, and the run can be resumed
    from every kind of state."""
    other = random_adapter(tmp_path / "other", base, r=2)
    nodes = (
        Node("base", "base_model", {"model": base.path, "dtype": "float32"}),
        Node("one", "load_adapter", {"adapter": adapter.path}),
        Node("two", "load_adapter", {"adapter": other.path}),
        Node("mix", "adapter_mix", {"weight_b": -0.5}),
        Node("small", "resize", {"r": 2}),
        Node("merge", "merge", {}),
    )
    wires = (
        Wire("base", "model", "one", "model"),
        Wire("base", "model", "two", "model"),
        Wire("one", "adapter", "mix", "a"),
        Wire("two", "adapter", "mix", "b"),
        Wire("mix", "adapter", "small", "adapter"),
        Wire("small", "adapter", "merge", "adapter"),
    )
    graph, registry = Graph("Kills", nodes, wires), load_registry()
    compiled = compile_plan(graph, registry, tmp_path)
    assert compiled.plan is not None, compiled.problems
    run = RunFolder.create(tmp_path / "runs", compiled.plan, graph)

    def go() -> None:
        sink = EventSink(run)
        assert execute(run.plan(), run, sink.emit, Control(), registry) == "completed"
        sink.close()

    def results() -> dict[str, str]:
        """The content of what each finished step has written, by its node."""
        records = [json.loads(p.read_text(encoding="utf-8")) for p in run.steps.glob("*.json")]
        places = {r["node"]: [Path(a["path"]) for a in r["artifacts"]] for r in records}
        return {node: "".join(map(digest, found)) for node, found in places.items()}

    states: list[dict[str, str]] = []
    kinds: dict[tuple[str, ...], Path] = {}

    def look(call: str) -> None:
        del call
        listed = sorted(str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_dir())
        kind = (*(_TOKENS.sub("*", n) for n in listed), *sorted(os.listdir(run.steps)))
        if kind not in kinds:
            states.append(results())
            kinds[kind] = tmp_path / "copies" / str(len(kinds))
            shutil.copytree(run.path, kinds[kind])

    run.steps.mkdir(exist_ok=True)
    with watched(look):
        go()
    final = results()
    assert set(final) == {n.id for n in nodes}
    assert len({len(s) for s in states}) >= len(nodes), "each step was seen to be finished"
    for state in states:
        assert state.items() <= final.items(), "a record of a half result"
    chosen = list(kinds.values())
    for copy in chosen[1 :: max(1, len(chosen) // 5)]:
        shutil.rmtree(run.path)
        shutil.copytree(copy, run.path)
        go()
        assert results() == final
        assert not list(run.path.rglob("*staging*"))


@pytest.mark.slow(seconds=60, order=0)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "name", ["adapter", "gguf", pytest.param("quantized", marks=needs_quantizer)]
)
def test_an_export_killed_at_random_moments(
    name: str, base: ModelValue, adapter: AdapterValue, tmp_path: Path
) -> None:
    what, form, settings = EXPORTS[name]
    place = tmp_path / "place"
    request = {
        "place": str(place),
        "value": (adapter if what == "adapter" else base).to_json(),
        "settings": {"format": form, "format_settings": settings},
        "kills": 12,
        "seed": 0,
    }
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.studio.training.killed_exports"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(json.dumps(request) + "\n")
    program.stdin.flush()
    found, statuses = [], []
    for line in program.stdout:
        if line.startswith("KILLED "):
            statuses.append(json.loads(line.removeprefix("KILLED "))["status"])
            found.append(digest(place / "talk"))
            program.stdin.write("\n")
            program.stdin.flush()
    assert program.wait() == 0
    new = digest(place / "talk")
    assert -signal.SIGKILL in statuses
    assert os.listdir(place) == ["talk"]
    others = {d for d in found if d not in ("", new)}
    assert len(others) <= 1, "the earlier export, and no other"
