"""Toy node types for tests of the engine: real processes run them, nothing is faked.

They are loaded into a run host through LORA_STUDIO_EXTENSIONS like any extension under
development. Each call of a toy leaves a line in ``calls.txt`` of the project folder, so that a test
can count what really ran.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

from studio.errors import StudioError
from studio.export_folder.llama_cpp import NO_READER
from studio.export_folder.parity import Check
from studio.graph.context import StepContext
from studio.graph.node_type import NodeType
from studio.graph.ports import ADAPTER, DATASET, MODEL, input_, output
from studio.graph.schema import Settings, setting

MODULE = "tests.studio.runs.toys"


class SourceSettings(Settings):
    text: str = setting("hello", "Text", "What is written.")
    file: str = setting("", "File", "A file to read instead.", widget="file")
    seed: int = setting(0, "Seed", "Any number.", ge=0)


class TrainSettings(Settings):
    steps: int = setting(5, "Steps", "How many metrics are sent.", unit="steps", ge=1)
    pause: float = setting(0.0, "Pause", "Time between two.", unit="s", ge=0.0)
    save_every: int = setting(2, "Save", "Checkpoint cadence.", unit="steps", ge=1)


class BlockSettings(Settings):
    how: Literal[
        "no",
        "check",
        "sleep",
        "child",
        "busy",
        "gil",
        "loop",
        "orphan",
        "fail",
        "studio_error",
        "write",
        "exit",
        "bad_output",
        "quit",
        "unfit",
        "unproven",
        "priority",
    ] = setting("no", "How", "In which way the step misbehaves.")
    label: str = setting("", "Label", "Any text.")


class ExportSettings(Settings):
    folder: str = setting("", "Folder", "Where to write.", widget="folder")


def note(context: StepContext) -> None:
    """Leave a trace of this call."""
    with (context.project_dir / "calls.txt").open("a", encoding="utf-8") as file:
        file.write(f"{context.node}\n")


def source_files(settings: SourceSettings, project_dir: Path) -> Iterable[Path]:
    return [project_dir / settings.file] if settings.file else []


def source(
    context: StepContext, inputs: Mapping[str, Any], settings: SourceSettings
) -> Mapping[str, Any]:
    note(context)
    context.phase("read", "Reading")
    text = (
        context.resolve(settings.file).read_text(encoding="utf-8")
        if settings.file
        else settings.text
    )
    path = context.folder / "rows.txt"
    path.write_text(text, encoding="utf-8")
    context.artifact("dataset", path)
    return {"dataset": {"path": str(path)}}


def train(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> Mapping[str, Any]:
    """Sends metrics; resumes from its checkpoint as the real one does."""
    note(context)
    context.phase("train", "Training")
    saved = context.checkpoints / "step.txt"
    done = int(saved.read_text(encoding="utf-8")) if saved.exists() else 0
    if done:
        context.emit("TrainResumed", step=done)
    for step in range(done + 1, settings.steps + 1):
        context.check()
        time.sleep(settings.pause)
        context.emit("Metric", step=step, steps=settings.steps, loss=1 / step, grad_norm=1.0)
        if step % settings.save_every == 0:
            saved.write_text(str(step), encoding="utf-8")
            context.emit("CheckpointSaved", step=step, path=str(saved), reason="cadence")
        if context.take_command("finish") is not None:
            context.reusable = False
            break
    context.emit("Evaluation", measures={"exact": {"before": 0.0, "after": 1.0}}, rows=3)
    path = context.folder / "adapter.txt"
    path.write_text(str(settings.steps), encoding="utf-8")
    context.artifact("adapter", path)
    return {"adapter": {"path": str(path), "rows": inputs["dataset"]["path"]}}


def block(
    context: StepContext, inputs: Mapping[str, Any], settings: BlockSettings
) -> Mapping[str, Any]:
    note(context)
    (context.folder / "half.bin").write_bytes(b"half")
    context.phase("merge", "Blocking")
    _misbehave(context, settings.how)
    path = context.folder / "merged.txt"
    path.write_text("whole " + settings.label, encoding="utf-8")
    context.artifact("merged_model", path)
    return {} if settings.how == "bad_output" else {"model": {"path": str(path)}}


def _misbehave(context: StepContext, how: str) -> None:
    if how == "check":
        while True:
            context.check()
            time.sleep(0.05)
    elif how == "sleep":
        time.sleep(1000)
    elif how == "child":
        subprocess.run(["sleep", "1000"], check=False)
    elif how == "orphan":
        subprocess.Popen(["sh", "-c", "setsid sleep 1000 & sleep 1000"])
        time.sleep(1000)
    elif how == "unfit":  # as an export whose check fails
        unfit = Check("x.gguf", "Q4_0", "llama.cpp", "red", "Too few bits.", "Use Q8_0.")
        context.emit("ExportChecked", **unfit.to_json())
    elif how == "unproven":  # as an export without llama.cpp
        missing = Check("x.gguf", "Q8_0", "llama.cpp", "not_proven", code=NO_READER)
        context.emit("ExportChecked", **missing.to_json())
    elif how == "quit":  # helpers that the step forgets
        subprocess.Popen(["sleep", "1000"])
    elif how == "busy":  # one C call that lets other threads run
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)"], check=False)
    elif how == "gil":  # one C call that lets no other thread run
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif how == "loop":
        while True:
            pass
    elif how == "fail":
        raise RuntimeError("a bug in a toy")
    elif how == "exit":
        sys.exit("a library that calls exit")
    elif how == "priority":
        context.notice(f"nice {psutil.Process().nice()}", level="info")
    elif how == "studio_error":
        raise StudioError(
            "The rows are no good.", hint="Mend them.", field="how", code="toy", line=7
        )
    elif how == "write":
        for number in range(100_000):
            context.emit("Notice", level="info", sentence="x" * 1000, hint=str(number))


def export(
    context: StepContext, inputs: Mapping[str, Any], settings: ExportSettings
) -> Mapping[str, Any]:
    note(context)
    context.phase("export", "Writing")
    folder = context.resolve(settings.folder) if settings.folder else context.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(str(inputs), encoding="utf-8")
    context.artifact("export", folder)
    return {}


SOURCE = NodeType(
    id="toy_source",
    title="Source",
    version=1,
    category="Toys",
    help="Writes a text.",
    settings=SourceSettings,
    run=source,
    files=source_files,
    outputs=(output("dataset", DATASET, "Dataset"),),
)
TRAIN = NodeType(
    id="toy_train",
    title="Train",
    version=1,
    category="Toys",
    help="Sends metrics.",
    settings=TrainSettings,
    run=train,
    inputs=(input_("dataset", DATASET, "Dataset"),),
    outputs=(output("adapter", ADAPTER, "Adapter"),),
)
BLOCK = NodeType(
    id="toy_block",
    title="Block",
    version=1,
    category="Toys",
    help="Misbehaves.",
    settings=BlockSettings,
    run=block,
    inputs=(input_("adapter", ADAPTER, "Adapter"),),
    outputs=(output("model", MODEL, "Model"),),
)
EXPORT = NodeType(
    id="toy_export",
    title="Export",
    version=1,
    category="Toys",
    help="Writes a folder.",
    settings=ExportSettings,
    run=export,
    inputs=(input_("model", (MODEL, ADAPTER), "Model"),),
)
NODES = (SOURCE, TRAIN, BLOCK, EXPORT)
