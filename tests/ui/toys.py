"""A node that pretends to train, as an installed extension: fast, stoppable, resumable, no torch.

It is written to a folder as pip would leave it, so that the window and the run host, which is
another process, find the same one.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from studio.graph.graph import Graph, Node
from studio.graph.registry import Registry, load_registry

TOY_FILE = '''
"""Counts steps and tells them as training does."""
import json
import time
from pathlib import Path

from studio.errors import Stopped, StudioError
from studio.graph.node_type import NodeType
from studio.graph.ports import REPORT, output
from studio.graph.schema import Settings, setting


class ToySettings(Settings):
    steps: int = setting(20, "Steps", "How many steps.", unit="steps", ge=1)
    delay_s: float = setting(0.01, "Delay", "Time for a step.", unit="s", ge=0.0)
    fail_at: int = setting(0, "Fail at", "Fail at this step; 0 never.", ge=0)
    recover_at: int = setting(0, "Recover at", "Say that memory ran out here; 0 never.", ge=0)
    nan_at: int = setting(0, "NaN at", "Fail here with a loss that is not a number; 0 never.", ge=0)
    source: str = setting("", "File", "A file.", widget="file")


def run(context, inputs, settings):
    saved = context.checkpoints / "step.json"
    done = json.loads(saved.read_text()) if saved.is_file() else 0
    if done:
        context.emit("TrainResumed", step=done)
    context.phase("train")
    try:
        for step in range(done + 1, settings.steps + 1):
            if step == settings.fail_at:
                raise StudioError("it broke.", hint="Set another step.", field="fail_at")
            if step == settings.nan_at:
                rows = [{"file": "/data/talk.jsonl", "line": 7, "text": "odd row"}]
                context.emit("NonFinite", step=step, what="loss", value="nan", rows=rows, kept=0)
                raise StudioError("Toy: the loss is not a number.", hint="Look at the rows.")
            if step == settings.recover_at:
                context.emit("MemoryRecovered", step=step, batch_size=2, accumulation=4, attempt=1,
                             most=3)
            time.sleep(settings.delay_s)
            context.emit("Metric", step=step, steps=settings.steps, loss=2.0 / step,
                         learning_rate=1e-4, grad_norm=1.0, tokens_per_s=100.0,
                         ram_process_gib=1.0, ram_system_gib=2.0)
            done = step
            context.progress("train", step, settings.steps, "steps")
            if context.take_command("finish") is not None:
                context.emit("EarlyStopped", step=step, steps=settings.steps,
                             reason="The training was finished on request.",
                             best_step=None, best_eval_loss=None)
                break
    except Stopped:
        context.checkpoints.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps(done))
        context.emit("CheckpointSaved", step=done, path=str(saved), reason="stop")
        raise
    path = context.folder / "report.json"
    path.write_text("{}", encoding="utf-8")
    context.artifact("report", path)
    context.emit("Evaluation", rows=4, examples=[],
                 measures={"exact_match": {"before": 0.0, "after": 0.75}})
    return {"report": {"path": str(path)}}


NODE = NodeType(
    id="toy", title="Toy", version=1, category="Training", help="Counts steps.",
    settings=ToySettings, run=run, outputs=(output("report", REPORT, "Report"),),
)


class PhasedSettings(Settings):
    gates: str = setting("", "Gates", "The folder of the files that let a phase go on.")
    note: str = setting("", "Note", "Changes the settings and nothing else.")


def phased(context, inputs, settings):
    for phase, title in (("load", "Loading the model"), ("train", "Training"),
                         ("save", "Writing the adapter"), ("verify", "Comparing")):
        context.phase(phase, title)
        if phase == "train":
            for step in range(1, 4):
                context.emit("Metric", step=step, steps=3, loss=2.0 / step)
                gate(context, settings, f"train-{step}", phase)
                if step == 2:
                    context.emit("Metric", step=2, steps=3, eval_loss=1.5)
                    context.phase("evaluate", "Computing the validation loss")
                    gate(context, settings, "evaluate", phase)
                    context.phase("train", "Training")
            context.emit("Metric", step=3, steps=3, eval_loss=1.25)
        else:
            gate(context, settings, phase, phase)
    path = context.folder / "report.json"
    path.write_text("{}", encoding="utf-8")
    context.artifact("report", path)
    adapter = context.folder / "adapter.json"
    adapter.write_text("{}", encoding="utf-8")
    context.artifact("adapter", adapter)
    return {"report": {"path": str(path)}}


def gate(context, settings, name, phase):
    """Wait until a file allows the next phase, or makes this one fail."""
    file = Path(settings.gates) / name
    while not file.is_file():
        context.check()
        time.sleep(0.005)
    if file.read_text() == "fail":
        raise StudioError("it broke.", hint="Repair it.", field="note")


PHASED = NodeType(
    id="phased", title="Phased", version=1, category="Training", help="Goes through phases.",
    settings=PhasedSettings, run=phased, outputs=(output("report", REPORT, "Report"),),
    stages=("load", "train", "save", "verify"),
)
'''


def install(site: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Write the extension, let run hosts see it, and return a registry that knows it."""
    info = site / "toy_node-1.0.dist-info"
    info.mkdir(parents=True)
    module = site / "toy_node.py"
    module.write_text(TOY_FILE, encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-node\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[lora_studio.nodes]\ntoy = toy_node:NODE\nphased = toy_node:PHASED\n", encoding="utf-8"
    )
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    spec = importlib.util.spec_from_file_location("toy_node", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return load_registry().with_nodes([loaded.NODE, loaded.PHASED])


def toy_graph(name: str = "Toys", **settings: object) -> Graph:
    """A project with one toy."""
    return Graph(name, (Node("toy", "toy", settings, position=(0.0, 0.0)),))


PHASES = ("load", "train-1", "train-2", "evaluate", "train-3", "save", "verify")


def phased_graph(gates: Path, **settings: object) -> Graph:
    """A project whose run waits in each of ``PHASES`` for a file in ``gates``."""
    gates.mkdir(exist_ok=True)
    values = {"gates": str(gates), **settings}
    return Graph("Phases", (Node("phased", "phased", values, position=(0.0, 0.0)),))
