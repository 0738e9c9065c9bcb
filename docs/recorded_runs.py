"""Short real runs for pictures, and one of them played again up to a phase.

``record`` runs the starter project in its host: with a model that fails, stopped and resumed, and to its end.
``Played`` gives such a run only the events up to one of them, with the lock held as by a host, so that a window which
follows it shows that phase for as long as it is looked at.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from studio.estimate.forecast import forecast_of
from studio.events import Event, from_line
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.runs.folder import RunFolder
from studio.runs.plan import compile_plan
from studio.runs.watch import Watch
from studio.system.paths import assets_dir, runs_dir
from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.05
STOP_AT, STOP_AGAIN_AT = 10, 14
ROWS, SIGN = 80, "§"
PROMPTS = "What is a robin?\nWhat is an oak?"
SETTINGS = {
    "max_steps": 24,
    "eval_steps": 6,
    "save_steps": 6,
    "sample_prompts": PROMPTS,
    "sample_max_tokens": 24,
}
NAMES = DONE, STOPPED, FAILED = ("done", "stopped", "failed")
Until = Callable[[Event], bool]
_HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from studio.runs.lock import HostLock
print(HostLock(Path(sys.argv[2])).acquire(10.0), flush=True)
sys.stdin.read()
"""


def project_of(home: Path, name: str) -> Path:
    """The project that a recorded run belongs to; the run to the end belongs to that of the stopped one."""
    return home / "projects" / (FAILED if name == FAILED else DONE) / "starter.studio"


def record(home: Path) -> None:
    """Make the projects and the runs. A run that was recorded before is used again."""
    found = _index(home)
    for name, run in ((FAILED, _fail), (STOPPED, _stop_and_resume), (DONE, _run)):
        path = project_of(home, name)
        if not path.is_file():
            shutil.copytree(assets_dir() / "data", path.parent / "data")
            graph = _graph()
            save_project(path, _failing(graph, path.parent) if name == FAILED else graph)
        if name not in found:
            print(f"Recording a run: {name}", flush=True)
            found[name] = run(path).id
            _index_path(home).write_text(json.dumps(found), encoding="utf-8")


def recorded(home: Path, name: str) -> RunFolder:
    """A run that was recorded."""
    return RunFolder(runs_dir() / _index(home)[name])


def show_only(home: Path, *names: str) -> None:
    """Let these runs be the only ones that the window finds; the others are kept beside them."""
    aside = home / "other-runs"
    aside.mkdir(exist_ok=True)
    for name, run in _index(home).items():
        here, away = runs_dir() / run, aside / run
        if name in names and away.exists():
            away.rename(here)
        elif name not in names and here.exists():
            here.rename(away)


def _index_path(home: Path) -> Path:
    return home / "recorded.json"


def _index(home: Path) -> dict[str, str]:
    path = _index_path(home)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _graph() -> Graph:
    graph = load_project(assets_dir() / "starter.studio")
    for field, value in SETTINGS.items():
        graph = set_setting(graph, "train", field, value)
    return graph


def _failing(graph: Graph, folder: Path) -> Graph:
    """A tiny model whose loss is not a number once the only row with a certain sign is trained on."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_tiny_model(folder / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder / "tiny")
    token = AutoTokenizer.from_pretrained(folder / "tiny").encode(SIGN)[-1]
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("nan")
    model.save_pretrained(folder / "tiny")
    rows = folder / "data" / "wordnet8_train.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines()[:ROWS]
    turns = [("user", f"What does {SIGN} 12 say?"), ("assistant", "person")]
    messages = [{"role": role, "content": content} for role, content in turns]
    lines[ROWS // 2] = json.dumps({"messages": messages})
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    graph = set_setting(graph, "base", "model", "tiny")
    return set_setting(graph, "train", "batch_size", 4)


def _start(project: Path) -> RunFolder:
    graph, registry = load_project(project), load_registry()
    compiled = compile_plan(graph, registry, project.parent)
    assert compiled.plan is not None, compiled.problems
    forecast = forecast_of(compiled.plan, graph, registry, runs_dir(), False)
    return RunFolder.create(runs_dir(), compiled.plan, graph, forecast)


def _run(project: Path) -> RunFolder:
    folder = _start(project)
    _follow(folder)
    assert folder.status() == "completed", folder.path
    return folder


def _fail(project: Path) -> RunFolder:
    folder = _start(project)
    _follow(folder)
    assert folder.status() == "failed", folder.path
    return folder


def _stop_and_resume(project: Path) -> RunFolder:
    folder = _start(project)
    for step in (STOP_AT, STOP_AGAIN_AT):
        _follow(folder, step)
        assert folder.status() == "stopped", folder.path
    return folder


def _follow(folder: RunFolder, stop_at: int | None = None) -> None:
    """Run a host until it ends; stop it after a step."""
    watch = Watch.start(folder)
    while watch.status is None:
        for event in watch.poll():
            if stop_at is not None and event.name == "Metric" and event.get("step") == stop_at:
                watch.stop()
        time.sleep(POLL_S)


# ---------------------------------------------------------------- phases


def phase(name: str) -> Until:
    """The Train node enters this phase."""
    return lambda e: e.name == "Phase" and e.node == "train" and e.get("phase") == name


def step(number: int) -> Until:
    """The progress of this training step was reported."""
    return lambda e: e.name == "Progress" and e.get("phase") == "train" and e.get("done") == number


def begins(node: str) -> Until:
    """A node says what it does first."""
    return lambda e: e.name in ("Phase", "Progress") and e.node == node


def called(name: str) -> Until:
    """An event of this name."""
    return lambda e: e.name == name


@dataclass
class _Past:
    events: list[Event]

    def take(self, until: Until) -> list[Event]:
        """The next events, to the first one that fits."""
        for index, event in enumerate(self.events):
            if until(event):
                taken, self.events = self.events[: index + 1], self.events[index + 1 :]
                return taken
        raise LookupError("the recorded run has no such event")


class Played:
    """A recorded run that happens again; its own events are back at the end."""

    def __init__(self, folder: RunFolder, *until: Until) -> None:
        self.folder = folder
        self._whole = folder.path / "recorded-events.jsonl"  # stays if this process is killed
        if not self._whole.exists():
            shutil.copy(folder.events_path, self._whole)
        lines = self._whole.read_text(encoding="utf-8").splitlines()
        past = _Past([from_line(line) for line in lines])
        self._first = [event for one in until for event in past.take(one)]
        self._past = past
        self._later = time.time() - self._first[-1].time
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.folder.events_path.write_bytes(b"")
        self._holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(ROOT), str(self.folder.lock_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline().strip() == "True"
        self._write(self._first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        shutil.copy(self._whole, self.folder.events_path)

    def go_on(self, until: Until) -> None:
        """More of its events, to the first one that fits."""
        self._write(self._past.take(until))

    def release(self) -> None:
        """The host ends."""
        if self._holder is not None:
            self._holder.communicate()
            self._holder = None

    def _write(self, events: list[Event]) -> None:
        with self.folder.events_path.open("a", encoding="utf-8") as file:
            file.writelines(replace(e, time=e.time + self._later).to_line() for e in events)
