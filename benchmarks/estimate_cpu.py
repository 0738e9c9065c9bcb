"""The estimate against real steps on a processor: resident memory of a helper process, as a table.

A model of each shape is made with random weights, two real steps of it are taken by the same probe
that the window offers (``studio.training.estimate.host``), and the peak of that process's resident
memory is compared with the formula's. Nothing of this machine's cache is read or written.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.estimate.ask import ask
from studio.estimate.data_facts import DataFacts
from studio.estimate.graph import estimate_job
from studio.estimate.job import Facts, job_of
from studio.estimate.machine import this_machine
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from tests.studio.estimate.architectures import ARCHITECTURES, shortened

MIB = 2**20


@dataclass(frozen=True)
class Cell:
    """One training: a shape cut to ``layers`` (0: all of them), and settings of its nodes."""

    name: str
    shape: str
    layers: int
    rows: int
    length: int
    dtype: str = "bfloat16"
    base: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] | None = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    labels: float = 0.5


CHECKPOINTING = {"gradient_checkpointing": True}
CELLS = (
    Cell("float32", "SmolLM2-135M", 0, 2, 256, "float32"),
    Cell("bf16", "SmolLM2-135M", 0, 2, 256),
    Cell("NF4", "SmolLM2-135M", 0, 2, 256, base={"quantization": "nf4"}),
    Cell("float32, checkpointing", "SmolLM2-135M", 0, 2, 512, "float32", train=CHECKPOINTING),
    Cell("float32, one long row", "SmolLM2-135M", 0, 1, 1024, "float32"),
    Cell("bf16, larger batch", "SmolLM2-135M", 0, 4, 512),
    Cell(
        "float32, q and v only",
        "SmolLM2-135M",
        0,
        2,
        512,
        "float32",
        lora={"target_modules": "q_proj,v_proj"},
    ),
    Cell("full fine-tuning", "SmolLM2-135M", 0, 2, 256, lora=None),
    Cell(
        "full fine-tuning, last 6 layers",
        "SmolLM2-135M",
        0,
        2,
        256,
        lora=None,
        train={"trained_layers": "last 6", "train_embeddings": False},
    ),
    Cell("float32", "TinyLlama-1.1B", 8, 2, 256, "float32"),
    Cell("bf16", "TinyLlama-1.1B", 8, 2, 256),
    Cell("bf16, checkpointing", "TinyLlama-1.1B", 8, 2, 512, train=CHECKPOINTING),
    Cell("bf16", "Qwen3-0.6B", 14, 2, 256),
    Cell("bf16", "OPT-1.3B", 6, 2, 256),
)
UNSEEN = (
    Cell("bf16", "SmolLM2-135M", 0, 3, 384),
    Cell("NF4", "SmolLM2-135M", 0, 1, 768, base={"quantization": "nf4"}),
    Cell("NF4", "TinyLlama-1.1B", 0, 1, 256, base={"quantization": "nf4"}),
    Cell("float32, dropout", "SmolLM2-135M", 0, 2, 128, "float32", lora={"dropout": 0.1}),
    Cell("full fine-tuning, float32", "SmolLM2-135M", 0, 1, 384, "float32", lora=None),
    Cell("full fine-tuning", "Qwen3-0.6B", 4, 2, 256, lora=None),
    Cell("full fine-tuning", "TinyLlama-1.1B", 4, 1, 512, lora=None),
    Cell("bf16, larger batch", "TinyLlama-1.1B", 6, 4, 512),
    Cell("float32, large blocks", "TinyLlama-1.1B", 3, 4, 512, "float32"),
    Cell("bf16", "StarCoder2-3B", 3, 2, 256),
    Cell("bf16, checkpointing", "Qwen3-0.6B", 0, 1, 512, train=CHECKPOINTING),
    Cell(
        "bf16, attention only",
        "Llama-3.2-1B",
        6,
        2,
        384,
        lora={"target_modules": "q_proj,k_proj,v_proj,o_proj"},
    ),
)
"""Not looked at when ``HOLES`` was chosen."""


def measure(cell: Cell, folder: Path) -> tuple[int, int]:
    """Peak by formula and as measured, in bytes."""
    make_model(cell, folder / "model")
    nodes = [Node("base", "base_model", {"model": "./model", "dtype": cell.dtype, **cell.base})]
    wires = []
    if cell.lora is not None:
        nodes.append(Node("lora", "lora", dict(cell.lora)))
        wires.append(Wire("base", "model", "lora", "model"))
    train = {"batch_size": cell.rows, "max_length": cell.length, "max_steps": 2, **cell.train}
    nodes.append(Node("train", "train", train))
    wires.append(Wire(nodes[-2].id, "model", "train", "model"))
    graph = Graph("measured", tuple(nodes), tuple(wires))
    job = job_of(graph, load_registry(), folder, graph.node("train"))
    data = DataFacts(100, cell.length, cell.length, cell.labels, exact=True)
    facts = Facts(this_machine(), data)
    formula = estimate_job(job, facts)
    probed = finished(ask("probe", job, facts))
    assert formula.peak is not None
    assert probed.peak is not None
    return formula.peak, probed.peak


def make_model(cell: Cell, folder: Path) -> None:
    """A folder with random weights."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = dict(ARCHITECTURES[cell.shape][0])
    config = dict(shortened(config, cell.layers)) if cell.layers else config
    made = CONFIG_MAPPING[config.pop("model_type")](**config)
    dtype = getattr(torch, cell.dtype)
    AutoModelForCausalLM.from_config(made, dtype=dtype).save_pretrained(folder)


def finished(asking: Any) -> Any:
    """What a generator returns."""
    while True:
        try:
            next(asking)
        except StopIteration as end:
            return end.value


def rows(only: list[str] | None) -> Iterator[str]:
    """The table, line by line."""
    import torch

    yield f"torch {torch.__version__}, {' '.join(platform.libc_ver())}, {os.cpu_count()} cores"
    yield "| shape | layers | rows × tokens | mode | measured, MiB | formula, MiB | off |"
    yield "| --- | ---: | ---: | --- | ---: | ---: | ---: |"
    for cell in (*CELLS, *UNSEEN):
        if only and cell.shape not in only:
            continue
        with tempfile.TemporaryDirectory() as place:
            os.environ["LORA_STUDIO_CACHE"] = str(Path(place) / "cache")
            formula, measured = measure(cell, Path(place))
        off = 100 * (formula / measured - 1)
        sizes = f"{measured / MIB:,.0f} | {formula / MIB:,.0f} | {off:+.1f} %"
        layers = cell.layers or "all"
        yield f"| {cell.shape} | {layers} | {cell.rows} × {cell.length} | {cell.name} | {sizes} |"
