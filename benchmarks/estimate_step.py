#!/usr/bin/env python3
"""The estimate against whole runs on a processor: a Train and a Merge step, from loading to the last check.

    python benchmarks/estimate_step.py [--only NAME]

A project with a small model is run as a user runs it, and the resident memory of its process is read
every few milliseconds. Prints the peak of each phase, and that of the steps beside the estimate. Uses a
cache of its own, except for the starter model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts
from studio.estimate.machine import this_machine
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.model.models import local_folder
from studio.system.children import end_child

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
STARTER = "starter:smollm2-135m"
LLAMA = {"model_type": "llama", "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
EVERY_S = 0.01


@dataclass(frozen=True)
class Case:
    """A model, the precision of its files and of the training, and settings of the Train node."""

    name: str
    config: Mapping[str, Any]
    stored: str
    dtype: str
    train: Mapping[str, Any] = field(default_factory=dict)
    quantization: str = "none"
    full: bool = False


WIDE = {
    **LLAMA,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 65536,
    "tie_word_embeddings": False,
}
DEEP = {
    **LLAMA,
    "hidden_size": 768,
    "intermediate_size": 2560,
    "num_hidden_layers": 20,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
SHORT = {"batch_size": 1, "max_length": 64}
CASES = (
    Case("SmolLM2-135M, float32", {}, "bfloat16", "float32"),
    Case("SmolLM2-135M, float32, 1 short row", {}, "bfloat16", "float32", SHORT),
    Case("SmolLM2-135M, bf16", {}, "bfloat16", "bfloat16"),
    Case("60M untied, float32", WIDE, "float32", "float32"),
    Case("60M untied, float32, 1 short row", WIDE, "float32", "float32", SHORT),
    Case("190M, bf16", DEEP, "bfloat16", "bfloat16"),
    Case("190M, bf16, 1 short row", DEEP, "bfloat16", "bfloat16", SHORT),
    Case("190M, NF4, 1 short row", DEEP, "bfloat16", "bfloat16", SHORT, "nf4"),
    Case("60M untied, full fine-tuning", WIDE, "float32", "float32", SHORT, full=True),
)


def make_project(case: Case, folder: Path) -> Path:
    """A project that trains and merges, with its model and rows."""
    model = STARTER
    if case.config:
        model = "./model"
        _make_model(case, folder / "model")
    draw = random.Random(0)
    vocabulary = _vocabulary(folder)
    lines = [
        json.dumps({"prompt": f"Row {n}.", "completion": " ".join(draw.choices(vocabulary, k=600))})
        for n in range(24)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = {"batch_size": 2, "max_length": 256, "max_steps": 4, **case.train}
    base = {"model": model, "dtype": case.dtype, "quantization": case.quantization}
    nodes = [
        Node("data", "dataset", {"source": "./rows.jsonl", "validation_fraction": 0.0}),
        Node("base", "base_model", base),
        Node("train", "train", train),
    ]
    wires = [Wire("data", "dataset", "train", "dataset")]
    if case.full:
        wires.append(Wire("base", "model", "train", "model"))
    else:
        nodes += [Node("lora", "lora", {}), Node("merge", "merge", {})]
        wires.append(Wire("base", "model", "lora", "model"))
        wires.append(Wire("lora", "model", "train", "model"))
        wires.append(Wire("train", "adapter", "merge", "adapter"))
    file = folder / "measured.studio"
    save_project(file, Graph("measured", tuple(nodes), tuple(wires)))
    return file


def _make_model(case: Case, folder: Path) -> None:
    """A folder with random weights, and the tokenizer of the starter model."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = dict(case.config)
    made = CONFIG_MAPPING[config.pop("model_type")](**config)
    dtype = getattr(torch, case.stored)
    AutoModelForCausalLM.from_config(made, dtype=dtype).save_pretrained(folder)
    starter = local_folder(STARTER, folder)
    assert starter is not None
    for file in (*starter.glob("tokenizer*"), *starter.glob("*.jinja")):
        shutil.copy(file, folder)


def _vocabulary(folder: Path) -> list[str]:
    """The words of the tokenizer, so that most rows of the embedding are used."""
    starter = local_folder(STARTER, folder)
    assert starter is not None
    tokens = json.loads((starter / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return [t.removeprefix("Ġ") for t in tokens if t.removeprefix("Ġ").isalpha()]


def estimated(file: Path) -> Estimate:
    """The estimate that the window shows for the project."""
    graph = load_project(file)
    found = estimate_graph(graph, load_registry(), file.parent, Facts(this_machine()))
    assert found is not None
    return found


def measured(file: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """The peak of the run's resident memory in each phase of each node, and how much of it were pages of
    files."""
    runs = file.parent / "runs"
    command = [sys.executable, str(ROOT / "main.py"), "run", str(file), "--runs", str(runs)]
    peaks: dict[tuple[str, str], tuple[int, int]] = {}
    log = (file.parent / "log.txt").open("w", encoding="utf-8")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    reader = _Events(runs)
    try:
        while process.poll() is None:
            reader.read()
            sizes = _sizes(reader.pid)
            if sizes is not None and reader.phase[1]:
                peaks[reader.phase] = max(peaks.get(reader.phase, (0, 0)), sizes)
            time.sleep(EVERY_S)
    finally:
        end_child(process, 3.0)
        log.close()
    if process.returncode:
        raise SystemExit((file.parent / "log.txt").read_text(encoding="utf-8"))
    return peaks


class _Events:
    """Follows the events of the only run in a folder: its process, and the current node and phase."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.place, self.pid = runs, 0, 0
        self.phase = ("", "")

    def read(self) -> None:
        for file in self.runs.glob("*/events.jsonl"):
            with file.open("rb") as events:
                events.seek(self.place)
                for line in events:
                    if not line.endswith(b"\n"):
                        break
                    self.place += len(line)
                    self._take(json.loads(line))

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "RunStarted":
            self.pid = int(event["pid"])
        elif event["event"] == "Phase":
            self.phase = (event["node"], event["title"])


def _sizes(pid: int) -> tuple[int, int] | None:
    """Resident memory of a process, and the part that are pages of files, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {
        k: int(v.split()[0]) * 1024 for k, _, v in (s.partition(":") for s in lines) if "R" in k[:3]
    }
    return (sizes["VmRSS"], sizes["RssFile"]) if "VmRSS" in sizes else None


def rows(only: str) -> Iterator[str]:
    """The table, line by line."""
    yield "| training | phase | measured, MiB |"
    yield "| --- | --- | ---: |"
    for case in CASES:
        if only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as place:
            file = make_project(case, Path(place))
            found = estimated(file)
            peaks = measured(file)
        steps = {k: sizes for k, sizes in peaks.items() if k[0] in ("train", "merge")}
        for (node, title), (size, pages) in steps.items():
            yield f"| {case.name} | {node}: {title} | {size / MIB:,.0f}, {pages / MIB:,.0f} of files |"
        peak = max(size for size, _ in steps.values())
        formula = found.peak or 0
        yield f"| {case.name} | estimate, {found.phase} | {formula / MIB:,.0f} ({100 * (formula / peak - 1):+.1f} %) |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the name of a training")
    options = parser.parse_args()
    for line in rows(options.only):
        print(line, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
