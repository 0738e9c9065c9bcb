"""The estimate of a Train node, from the graph alone: the function that the window calls live.

``estimate_graph`` takes well under 5 ms once the model's shape has been read, so that it can follow a
slider. It never raises for a project that is not finished: it says in ``notes`` what is missing, and
what is not known is ``None``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from studio.estimate.activations import Mode
from studio.estimate.data_facts import DataFacts, read_data_facts
from studio.estimate.machine import Machine, this_machine
from studio.estimate.measured import Measured, key_of, load_measured
from studio.estimate.memory import Batch, Parts, memory
from studio.estimate.shapes import Shape, read_shape, shape_of_config
from studio.estimate.speed import operations_per_token
from studio.estimate.trainable import PLAIN, Counted, count, matched, rank_for
from studio.graph.graph import Graph, Node
from studio.graph.registry import Registry
from studio.models import local_folder, starter_of
from studio.targets import choose, listed
from studio.whole import chosen_layers, layer_of

Basis = Literal["formula", "dry run", "measured here"]
STARTER_CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Shapes of starters that are not imported yet."""
MARGIN = 0.95
"""Share of the free memory that a run may plan with."""


@dataclass(frozen=True)
class Facts:
    """What the estimate goes by besides the graph. ``data`` replaces what is read from the files."""

    machine: Machine
    data: DataFacts | None = None


@dataclass(frozen=True)
class Estimate:
    """What one Train node will need.

    ``parts`` are bytes by part with their ``peak``; ``available`` the bytes that the device has free,
    ``fits`` whether the peak is below 95 % of them. ``seconds`` is known only where a speed was
    measured on this machine, with ``seconds_off`` as its uncertainty (0.3: ±30 %). ``basis`` says
    where the peak comes from. ``None`` means unknown; ``notes`` are sentences for the user.
    """

    node: str
    parts: Parts | None = None
    peak: int | None = None
    available: int = 0
    fits: bool | None = None
    trainable: int | None = None
    total: int | None = None
    rows: int | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    seconds_off: float | None = None
    basis: Basis = "formula"
    device: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """A Train node and what is wired to it, as settings models."""

    node: str
    train: Any
    base: Any
    lora: Any | None
    datasets: tuple[Any, ...]
    shape: Shape | None
    project_dir: Path


def estimate_graph(
    graph: Graph, registry: Registry, project_dir: Path, facts: Facts | None = None,
    node: str | None = None,
) -> Estimate | None:  # fmt: skip
    """The estimate of the Train node ``node``, or of the first; ``None`` without one."""
    trains = [n for n in graph.nodes if n.type == "train" and node in (None, n.id)]
    if not trains:
        return None
    job = job_of(graph, registry, project_dir, trains[0])
    return estimate_job(job, facts or Facts(this_machine()))


def job_of(graph: Graph, registry: Registry, project_dir: Path, train: Node) -> Job:
    """What is wired to a Train node; ``None`` in its place where it is missing or invalid."""
    near = _model_nodes(graph, train.id)
    base = next((n for n in near if n.type == "base_model"), None)
    lora = next((n for n in near if n.type == "lora"), None)
    wire = graph.wire_into(train.id, "dataset")
    data = graph.upstream(wire.source) if wire is not None else frozenset()
    settings = parsed(registry, base)
    return Job(
        train.id, parsed(registry, train), settings, parsed(registry, lora),
        tuple(s for n in graph.nodes if n.id in data and n.type == "dataset"
              if (s := parsed(registry, n)) is not None),
        shape_of_model(settings.model, project_dir) if settings is not None else None, project_dir,
    )  # fmt: skip


def parsed(registry: Registry, node: Node | None) -> Any | None:
    """A node's settings, or ``None`` where they are not valid."""
    node_type = registry.node_type(node.type) if node is not None else None
    if node is None or node_type is None:
        return None
    try:
        return node_type.settings.model_validate(dict(node.settings))
    except ValidationError:
        return None


def _model_nodes(graph: Graph, train: str) -> list[Node]:
    """The nodes along the model input, nearest first."""
    found: list[Node] = []
    wire = graph.wire_into(train, "model")
    while wire is not None and graph.has(wire.source) and len(found) < len(graph.nodes):
        found.append(graph.node(wire.source))
        wire = graph.wire_into(wire.source, "model")
    return found


def shape_of_model(model: str, project_dir: Path) -> Shape | None:
    """The shape of the model that a Base model node names, where it is on this machine."""
    try:
        folder = local_folder(model.strip(), project_dir)
    except (OSError, ValueError):
        folder = None
    shape = read_shape(folder) if folder is not None else None
    starter = starter_of(model.strip())
    if shape is None and starter is not None and starter.id in STARTER_CONFIGS:
        return shape_of_config(STARTER_CONFIGS[starter.id])
    return shape


def estimate_job(job: Job, facts: Facts) -> Estimate:
    """The estimate of one training."""
    found = Estimate(job.node, available=facts.machine.available, device=facts.machine.name)
    if job.train is None or job.base is None:
        return replace(found, notes=("Connect a Base model and a Dataset to see what is needed.",))
    if job.shape is None:
        return replace(found, notes=(
            "The model is not on this machine yet, or its architecture is not known: run the Base "
            "model node, or estimate with a dry run.",
        ))  # fmt: skip
    counted, notes = counted_of(job, job.shape)
    mode = mode_of(job, facts.machine)
    data, said = rows_of(job, facts)
    batch = longest_batch(job, data, mode)
    framework = facts.machine.framework
    parts = memory(
        job.shape, counted, mode, batch, job.train.optimizer, framework, facts.machine.holes
    )
    known = load_measured(measured_key(job, mode))
    found = _with_memory(found, parts, known)
    found = replace(found, **_counts(job, job.shape, counted, mode), notes=(*notes, *said))
    return _with_time(
        _noted(found, job.shape, parts, facts.machine.device), job, data, counted, mode, known
    )


def _counts(job: Job, shape: Shape, counted: Counted, mode: Mode) -> dict[str, Any]:
    if mode.full:
        return {"trainable": counted.trainable, "total": shape.parameters}
    return {"trainable": counted.trainable, "total": counted.total(shape)}


def counted_of(job: Job, shape: Shape) -> tuple[Counted, list[str]]:
    """The trained parameters, and what has to be said about them."""
    if job.lora is None:
        return _whole(job, shape), []
    lora = job.lora
    chosen = choose(shape.modules(), lora, job.base.model)
    targets = matched(shape, chosen.names, rank_for(lora.r, chosen.ranks))
    counted = count(
        shape, lora.method, targets, bias=lora.bias, settings=lora.method_settings,
        saved=listed(lora.modules_to_save),
    )  # fmt: skip
    notes = [sentence[0].upper() + sentence[1:] for _, sentence, _ in chosen.troubles]
    if counted.adapter is None:
        notes.append(f"How much {lora.method} trains is counted by a dry run, not by a formula.")
    elif lora.method not in PLAIN:
        notes.append(f"Activations of {lora.method} are taken to be LoRA's; a dry run knows them.")
    return counted, notes


def _whole(job: Job, shape: Shape) -> Counted:
    """Full fine-tuning: everything, or the chosen layers."""
    layers = chosen_layers(job.train.trained_layers, shape.layers)
    ends = shape.embedding + shape.head if job.train.train_embeddings else 0
    inner = [m for m in shape.linears if layers is None or layer_of(m.name) in layers]
    number = shape.layers if layers is None else len(layers)
    rest = shape.outside if layers is None else 0
    own = sum(m.parameters for m in inner) + number * shape.vectors + rest + ends
    first = 0 if layers is None or ends else min(layers, default=shape.layers)
    return Counted((), 0, own, first_layer=first)


def mode_of(job: Job, machine: Machine) -> Mode:
    """How the engine computes this training's steps."""
    dtype = job.base.dtype
    if dtype == "auto":
        dtype = "bfloat16" if machine.bfloat16 else "float32"
    full, half = job.lora is None, dtype != "float32"
    return Mode(
        weights=4 if full or not half else 2, adapter=4, autocast=half,
        quantization="none" if full else job.base.quantization, double_quant=job.base.double_quant,
        checkpointing=job.train.gradient_checkpointing, head="rows" if full else "chunks",
        masked=job.train.batching == "padded" and job.train.batch_size > 1,
        dropout=job.lora.dropout if job.lora is not None else 0.0,
        device="cuda" if machine.device == "cuda" else "cpu", full=full,
    )  # fmt: skip


def rows_of(job: Job, facts: Facts) -> tuple[DataFacts | None, list[str]]:
    """The rows that are trained on, without those kept for validation."""
    from studio.formats._check import source_path

    if facts.data is not None:
        return facts.data, []
    each = []
    for settings in job.datasets:
        source = str(settings.source).strip()
        found = read_data_facts(source_path(source, job.project_dir)) if source else None
        if found is None:
            return None, ["How long the rows are is not known: the max length is assumed for all."]
        count = min(found.rows, settings.limit) if settings.limit else found.rows
        each.append(replace(found, rows=round(count * (1 - settings.validation_fraction))))
    if not each:
        return None, ["No data is connected: rows of the max length are assumed."]
    rows = sum(d.rows for d in each)
    mean = sum(d.rows * d.mean for d in each) / max(1, rows)
    labels = sum(d.rows * d.mean * d.labels for d in each) / max(1.0, rows * mean)
    data = DataFacts(rows, mean, max(d.longest for d in each), labels)
    return data, ["Lengths in tokens are taken as a quarter of the characters."]


def longest_batch(job: Job, data: DataFacts | None, mode: Mode) -> Batch:
    """The largest micro-batch that can come. How far answers reach is not known for single rows, so
    half as many again as the mean share may be learned, and of unknown data everything."""
    train = job.train
    length = train.max_length
    if train.batching == "packed":
        length = max(train.pack_length, length) if train.pack_length else length
    elif data is not None:
        length = min(length, max(8, data.longest if data.exact else math.ceil(1.2 * data.longest)))
    share = 1.0
    if data is not None and train.train_on != "all":
        share = min(1.0, data.labels if data.exact else 1.5 * data.labels)
    tokens = train.batch_size * length
    return Batch(
        train.batch_size, length, max(1, round(tokens * share)),
        accumulated=train.gradient_accumulation_steps > 1,
    )  # fmt: skip


def measured_key(job: Job, mode: Mode) -> str:
    """The name under which figures of such a training are kept."""
    method = job.lora.method if job.lora is not None else "whole"
    return key_of(str(job.base.model), {**asdict(mode), "method": method, "masked": None})


def _with_memory(found: Estimate, parts: Parts | None, known: Measured | None) -> Estimate:
    if parts is None:
        return found
    peak = round(parts.peak * (known.ratio if known else 1.0))
    basis: Basis = "measured here" if known else "formula"
    fits = peak <= MARGIN * found.available
    return replace(found, parts=parts, peak=peak, basis=basis, fits=fits)


ALLOCATOR_NOTE = (
    "On a processor the system's allocator keeps memory that was freed; how much is approached. A probe "
    "measures it."
)


def _noted(found: Estimate, shape: Shape, parts: Parts | None, device: str) -> Estimate:
    notes = list(found.notes)
    if parts is None and found.trainable is not None:
        notes.append("What the chosen optimizer keeps is not known.")
    if found.basis == "formula" and parts is not None and device == "cpu":
        notes.append(ALLOCATOR_NOTE)
    if not shape.exact:
        notes.append(f"Activations of {shape.model_type} are approached; a dry run is exact.")
    if shape.experts_active > 1:
        notes.append("How tokens spread over the experts is not known: an even spread is assumed.")
    return replace(found, notes=tuple(notes))


def _with_time(
    found: Estimate, job: Job, data: DataFacts | None, counted: Counted, mode: Mode,
    known: Measured | None,
) -> Estimate:  # fmt: skip
    """Steps and tokens from the rows, and seconds where a speed was measured here."""
    from studio.estimate.lengths import optimizer_steps, seen_tokens

    steps = optimizer_steps(job.train, data)
    tokens = seen_tokens(job.train, data, steps)
    rows = data.rows if data is not None else None
    found = replace(found, rows=rows, steps=steps, tokens=tokens)
    if known is None or tokens is None or job.shape is None or not known.operations_per_s:
        return found
    mean = data.mean if data is not None else job.train.max_length
    each = operations_per_token(
        job.shape, counted.adapter or 0, mean, data.labels if data is not None else 1.0,
        checkpointing=mode.checkpointing, full=mode.full,
    )  # fmt: skip
    return replace(found, seconds=tokens * each / known.operations_per_s, seconds_off=SPEED_OFF)


SPEED_OFF = 0.3
"""How far a speed measured on two steps was from that of the whole run, at most, as a share."""
