"""From “done” to a model in Ollama or LM Studio in two clicks, with real mouse events and a real training.

Ollama is a stand-in on the PATH that reads the Modelfile strictly; LM Studio is its models folder.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu
from pytestqt.qtbot import QtBot

from studio.export_folder.commands import gguf_files
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.model.gguf_header import read_gguf_header
from studio.runs.folder import RunFolder
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.tiny import make_tiny_model, write_rows
from tests.ui.conftest import MakeSession, runs_of
from ui.window.main_window import RESULTS
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!{python}
import json, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.studio.training.modelfiles import parse
verb, name, flag, file = sys.argv[1:]
assert (verb, flag) == ("create", "-f"), sys.argv
commands = parse(Path(file).read_text(encoding="utf-8"))
model = Path(file).parent / dict(commands)["model"]
assert model.is_file() and model.read_bytes()[:4] == b"GGUF", model
print("gathering model components", file=sys.stderr, flush=True)
while not Path({gate!r}).exists():
    time.sleep(0.02)
if Path({gate!r}).read_text() == "fail":
    print("Error: no space left in the store", file=sys.stderr)
    sys.exit(1)
Path({record!r}).write_text(json.dumps([name, commands]), encoding="utf-8")
print("success", file=sys.stderr)
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.skipif(
        os.name == "nt", reason="the stand-in is a script with a first line for POSIX"
    ),
]


class Clicks(QObject):
    """Counts the presses of a mouse button in the whole program."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._last: Any = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # Qt passes a press on to the parents of a widget, and first to its window.
        if event.type() == QEvent.Type.MouseButtonPress and watched.isWidgetType():
            stamp = event.timestamp()  # type: ignore[attr-defined]
            if stamp != self._last:
                self.count += 1
                self._last = stamp
        return False


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A training without Merge and Export."""
    model = make_tiny_model(tmp_path / "work" / "model")
    make_bpe_tokenizer().save_pretrained(model)  # with merges, which GGUF needs
    rows = write_rows(tmp_path / "work" / "rows.jsonl")
    nodes = (
        Node("data", "dataset", {"source": str(rows)}),
        Node("base", "base_model", {"model": str(model), "dtype": "float32"}, position=(0, 200)),
        Node("lora", "lora", {"r": 4, "alpha": 8}, position=(260, 200)),
        Node("train", "train", {"max_steps": 2, "batch_size": 1}, position=(520, 0)),
    )
    wires = (
        Wire("data", "dataset", "train", "dataset"),
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
    )
    return Graph("Support tone", nodes, wires)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Ollama on the PATH; it waits for this file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    gate, record = tmp_path / "gate", tmp_path / "created.json"
    program = folder / "ollama"
    text = STAND_IN.format(
        python=sys.executable, root=str(ROOT), gate=str(gate), record=str(record)
    )
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return gate


def trained(make_session: MakeSession, graph: Graph, qtbot: QtBot) -> Session:
    """A window whose training has ended."""
    session = make_session(graph)
    qtbot.waitUntil(lambda: session.window.status.problems.text() != "")
    session.runs.run()
    wait_for_run(session, qtbot, 1)
    return session


def wait_for_run(session: Session, qtbot: QtBot, count: int) -> None:
    """Wait until so many runs have ended."""

    def ended() -> bool:
        return len(runs_of(session)) == count and session.runs.phase == "idle"

    qtbot.waitUntil(ended, timeout=120_000)
    assert session.runs.live is not None
    assert session.runs.live.state.status == "completed", session.window.banner.text()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")


def click_entry(menu: QMenu, title: str) -> None:
    """Click an entry of an open menu."""
    action = next(a for a in menu.actions() if a.text() == title)
    QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(action).center())


def two_clicks(session: Session, qtbot: QtBot, program: str) -> int:
    """Click the banner and the program, and return how often the mouse was pressed."""
    app = QApplication.instance()
    assert app is not None
    clicks = Clicks()
    app.installEventFilter(clicks)
    QTest.mouseClick(session.window.banner.button("Use In…"), LEFT)
    menu = session.use_result.menu
    qtbot.waitUntil(menu.isVisible)
    click_entry(menu, program)
    app.removeEventFilter(clicks)
    return clicks.count


def steps_trained(run: RunFolder) -> int:
    """The optimizer steps of a run."""
    return sum(1 for line in run.events_path.read_text("utf-8").splitlines() if '"Metric"' in line)


def test_a_model_is_in_ollama_after_two_clicks(
    make_session: MakeSession, qtbot: QtBot, graph: Graph, gate: Path, tmp_path: Path
) -> None:
    session = trained(make_session, graph, qtbot)
    assert two_clicks(session, qtbot, "Ollama") == 2
    wait_for_run(session, qtbot, 2)
    use = session.window.results.artifacts.use
    qtbot.waitUntil(lambda: use.text.text() == "Ollama: gathering model components")
    assert use.isVisible()
    assert use.stop_button.isVisible()
    gate.write_text("go", encoding="utf-8")
    qtbot.waitUntil(lambda: not use.busy)
    assert (
        use.text.text() == "support-tone was added to Ollama. Run it with: ollama run support-tone"
    )
    name, commands = json.loads((tmp_path / "created.json").read_text(encoding="utf-8"))
    assert name == "support-tone"
    assert dict(commands)["stop"] == "<|im_end|>"
    newest, first = sorted(runs_of(session), key=lambda r: r.id, reverse=True)
    assert steps_trained(first) > 0
    assert steps_trained(newest) == 0  # nothing was trained again
    added = [n for n in session.document.graph.nodes if not graph.has(n.id)]
    assert [(n.type, n.title) for n in added] == [("merge", ""), ("export", "For Ollama")]
    session.document.undo()
    assert session.document.graph == graph  # one step in the Edit menu
    session.document.redo()
    # Again: the folder is there, so that nothing runs.
    assert two_clicks(session, qtbot, "Ollama") == 2
    qtbot.waitUntil(lambda: not use.busy)
    assert len(runs_of(session)) == 2


def test_a_file_is_in_lm_studio_after_two_clicks(
    make_session: MakeSession,
    qtbot: QtBot,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / ".lmstudio").mkdir()
    session = trained(make_session, graph, qtbot)
    assert two_clicks(session, qtbot, "LM Studio") == 2
    wait_for_run(session, qtbot, 2)
    use = session.window.results.artifacts.use
    qtbot.waitUntil(lambda: use.text.text().startswith("Added to LM Studio"))
    (file,) = (tmp_path / ".lmstudio" / "models").rglob("*.gguf")
    assert file.parts[-3:] == ("lora-studio", "Support-tone-GGUF", "Support-tone-Q8_0.gguf")
    assert read_gguf_header(file).architecture == "llama"
    assert str(file) in use.text.text()


def test_lm_studio_gets_no_base_model_of_an_adapter(
    make_session: MakeSession,
    qtbot: QtBot,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An Ollama folder of an adapter has a GGUF file too: that of the untrained base."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / ".lmstudio").mkdir()
    out = Node("out", "export", {"format": "ollama", "check_rows": 0}, position=(780, 200))
    wires = (*graph.wires, Wire("train", "adapter", "out", "model"))
    session = trained(make_session, Graph("Support tone", (*graph.nodes, out), wires), qtbot)
    (folder,) = (
        Path(a["path"]) for a in session.runs.live.state.artifacts if a["kind"] == "ollama_folder"
    )
    bases = [p.read_bytes() for p in gguf_files(folder)]
    assert bases
    assert len(list(folder.glob("*-LoRA.gguf"))) == 1
    results = session.window.results.artifacts
    results.use_in("lm_studio", "ollama_folder", folder)
    wait_for_run(session, qtbot, 2)
    qtbot.waitUntil(lambda: results.use.text.text().startswith("Added to LM Studio"))
    (file,) = (tmp_path / ".lmstudio" / "models").rglob("*.gguf")
    assert file.read_bytes() not in bases
    assert session.document.graph.node("export").title == "For LM Studio"


def test_an_error_of_ollama_is_shown_and_a_creation_can_be_stopped(
    make_session: MakeSession, qtbot: QtBot, graph: Graph, gate: Path
) -> None:
    session = trained(make_session, graph, qtbot)
    two_clicks(session, qtbot, "Ollama")
    wait_for_run(session, qtbot, 2)
    use = session.window.results.artifacts.use
    qtbot.waitUntil(lambda: "gathering" in use.text.text())
    QTest.mouseClick(use.stop_button, LEFT)
    qtbot.waitUntil(lambda: not use.busy)
    assert use.text.text() == "Ollama create support-tone was stopped."
    gate.write_text("fail", encoding="utf-8")
    two_clicks(session, qtbot, "Ollama")
    qtbot.waitUntil(lambda: not use.busy)
    assert "create support-tone failed: no space left in the store." in use.text.text()


def test_without_the_programs_it_says_where_to_get_them(
    make_session: MakeSession,
    qtbot: QtBot,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    session = trained(make_session, graph, qtbot)
    two_clicks(session, qtbot, "Ollama")
    wait_for_run(session, qtbot, 2)
    use = session.window.results.artifacts.use
    qtbot.waitUntil(lambda: "ollama.com" in use.text.text())
    copied = QApplication.clipboard().text()
    assert copied.startswith("ollama create support-tone -f ")
    assert copied in use.text.text()
    two_clicks(session, qtbot, "LM Studio")
    assert "LM Studio was not found" in use.text.text()
    assert "Support-tone-Q8_0.gguf" in use.text.text()


def test_a_changed_training_is_not_run_without_a_question(
    make_session: MakeSession,
    qtbot: QtBot,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = trained(make_session, graph, qtbot)
    results = session.window.results.artifacts
    session.window.show_tab(RESULTS)
    QTest.mouseClick(results.use_button, LEFT, pos=QPoint(5, 5))
    qtbot.waitUntil(results.use_menu.isVisible)
    click_entry(results.use_menu, "vLLM")
    line = QApplication.clipboard().text()
    assert line.startswith("vllm serve ")
    assert "--enable-lora --max-lora-rank 8 --lora-modules" in line
    target = tmp_path / "Shared"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(target), ""))
    QTest.mouseClick(results.use_button, LEFT, pos=QPoint(5, 5))
    qtbot.waitUntil(results.use_menu.isVisible)
    click_entry(results.use_menu, "Save as ZIP…")
    qtbot.waitUntil(lambda: not results.use.busy)
    assert results.use.text.text().startswith(f"Written: {target}.zip.")
    with zipfile.ZipFile(f"{target}.zip") as found:
        assert "Shared/adapter_model.safetensors" in found.namelist()
    session.document.edit(
        set_setting(session.document.graph, "train", "max_steps", 3), "More steps"
    )
    view = session.runs.view
    qtbot.waitUntil(lambda: "train" in getattr(view(session.runs.shown), "changed", ()))
    two_clicks(session, qtbot, "Ollama")
    assert session.runs.phase == "idle"
    assert "Run trains again" in session.window.banner.text()
    assert session.document.graph.node("export").title == "For Ollama"
