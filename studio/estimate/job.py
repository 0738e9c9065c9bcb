"""The description of a training in the graph: the nodes connected to a Train node, its batches and
precision.

It estimates nothing and never raises for an incomplete project.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.estimate.activations import Mode
from studio.estimate.data_facts import DataFacts
from studio.estimate.formulas import PLAIN
from studio.estimate.kept import FLOAT32_BASE, FUSED, KEPT
from studio.estimate.machine import Machine
from studio.estimate.memory import Batch
from studio.estimate.pace import Pace
from studio.estimate.trainable import Counted, count, matched, rank_for
from studio.graph.graph import Graph, Node
from studio.graph.registry import Registry
from studio.model.adapter_config import lora_settings_of
from studio.model.folder_check import folder_faults
from studio.model.folder_files import read_text
from studio.model.known_models import known_model
from studio.model.layer_names import block_number
from studio.model.models import ends_of, local_folder, starter_of
from studio.model.read_shape import read_shape, shape_of_config
from studio.model.shapes import Shape
from studio.model.targets import HEADS, choose, listed
from studio.node_settings.layer_range import chosen_layers
from studio.node_settings.lora import LoraSettings
from studio.values import FULL_FINE_TUNING
from studio.variants.lora_method import settings_after

STARTER_CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}
"Shapes of starter models that have not been imported yet."


@dataclass(frozen=True)
class Facts:
    """The facts for an estimate besides the graph. ``data`` replaces what is read from the files;
    ``paces`` are earlier trainings on this machine (``earlier``); if no probe applies, the peak is
    multiplied by ``least_ratio``. ``threads`` are those of a run."""

    machine: Machine
    data: DataFacts | None = None
    paces: tuple[Pace, ...] = ()
    least_ratio: float = 1.0
    threads: int = 0


@dataclass(frozen=True)
class Job:
    """A Train node and the nodes connected to it, as settings models; ``config`` identifies the
    content of the model's config.json; ``fault`` says what is wrong with the model's files; ``merge``
    is the Merge node that its adapter reaches."""

    node: str
    train: Any
    base: Any
    lora: Any | None
    datasets: tuple[Any, ...]
    shape: Shape | None
    project_dir: Path
    config: str = ""
    fault: str = ""
    merge: Any | None = None


def job_of(graph: Graph, registry: Registry, project_dir: Path, train: Node) -> Job:
    """The nodes connected to a Train node; ``None`` for a missing or invalid one."""
    near = model_nodes(graph, train.id)
    base = next((n for n in near if n.type == "base_model"), None)
    wire = graph.wire_into(train.id, "dataset")
    data = graph.upstream(wire.source) if wire is not None else frozenset()
    settings = parsed(registry, base)
    return Job(
        train.id,
        parsed(registry, train),
        settings,
        _lora_of(near, registry, project_dir),
        tuple(
            s
            for n in graph.nodes
            if n.id in data and n.type == "dataset"
            if (s := parsed(registry, n)) is not None
        ),
        shape_of_model(settings.model, project_dir) if settings is not None else None,
        project_dir,
        config_of_model(settings.model, project_dir) if settings is not None else "",
        fault_of_model(settings.model, project_dir) if settings is not None else "",
        _merge_after(graph, registry, train.id),
    )


def _merge_after(graph: Graph, registry: Registry, train: str) -> Any | None:
    """The settings of a Merge node behind a Train node."""
    merges = (n for n in graph.nodes if n.type == "merge" and train in graph.upstream(n.id))
    return parsed(registry, next(merges, None))


def parsed(registry: Registry, node: Node | None) -> Any | None:
    """A node's settings, or ``None`` where they are not valid."""
    node_type = registry.node_type(node.type) if node is not None else None
    if node is None or node_type is None:
        return None
    try:
        return node_type.settings.model_validate(dict(node.settings))
    except ValidationError:
        return None


def model_nodes(graph: Graph, train: str) -> list[Node]:
    """The nodes along the model input, nearest first, through those whose adapter is trained further. A merged
    model is a new one."""
    found: list[Node] = []
    wire = graph.wire_into(train, "model")
    while wire is not None and graph.has(wire.source) and len(found) < len(graph.nodes):
        node = graph.node(wire.source)
        found.append(node)
        wire = graph.wire_into(node.id, "model")
        if wire is None and node.type != "merge":
            others = (w for w in graph.wires_into(node.id) if w.target_port != "dataset")
            wire = next(others, None)
    return found


def _lora_of(near: list[Node], registry: Registry, project_dir: Path) -> Any | None:
    """The LoRA of a training, given the nodes along its model input: the LoRA node, or the form of the adapter that
    is trained further."""
    after: list[Node] = []
    for node in near:
        settings = parsed(registry, node)
        if node.type == "lora":
            return settings and _as_left(settings, after, registry)
        if node.type == "load_adapter":
            named = settings.adapter if settings is not None else ""
            # One on the Hub is known when it is downloaded.
            found = lora_settings_of(named, project_dir) or LoraSettings()
            return _as_left(found, after, registry)
        after.append(node)
    return None


def _as_left(lora: Any, after: list[Node], registry: Registry) -> Any:
    """The LoRA that trainings and Resize nodes leave of an adapter."""
    variant = registry.variants.get("adapter", {}).get(lora.method)
    if variant is not None and any(n.type == "train" for n in after):
        lora = settings_after(lora, variant.payload)
    for node in after:
        settings = parsed(registry, node) if node.type == "resize" else None
        if settings is not None and settings.by == "rank":
            lora = lora.model_copy(update={"method": "lora", "r": min(lora.r, settings.r)})
    return lora


def shape_of_model(model: str, project_dir: Path) -> Shape | None:
    """The shape of the model that a Base model node names, where it is on this machine or known before."""
    folder = _folder(model, project_dir)
    shape = read_shape(folder) if folder is not None else None
    starter = starter_of(model.strip())
    if shape is None and starter is not None and starter.id in STARTER_CONFIGS:
        return shape_of_config(STARTER_CONFIGS[starter.id])
    known = known_model(model) if folder is None else None
    return shape_of_config(known.config) if known is not None else shape


def _folder(model: str, project_dir: Path) -> Path | None:
    try:
        return local_folder(model.strip(), project_dir)
    except (OSError, ValueError):
        return None


def fault_of_model(model: str, project_dir: Path) -> str:
    """What is wrong with the model's files; weights that are not there are not needed here."""
    folder = _folder(model, project_dir)
    faults = folder_faults(folder) if folder is not None else ()
    return next((f.sentence for f in faults if f.code != "no_weights"), "")


def config_of_model(model: str, project_dir: Path) -> str:
    """The beginning of the sha256 of the model's config.json; empty where there is none."""
    folder = _folder(model, project_dir)
    try:
        content = read_text(folder, "config.json") if folder is not None else ""
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(content.encode()).hexdigest()[:16] if content else ""


def counted_of(job: Job, shape: Shape) -> tuple[Counted, list[str]]:
    """The trained parameters, and notes about them."""
    if job.lora is None:
        return _full_fine_tuning(job, shape), []
    lora = job.lora
    ends = ends_of(job.base.model, job.project_dir, lora)
    chosen = choose(shape.modules(), lora, job.base.model, ends)
    targets = matched(shape, chosen.names, rank_for(lora.r, chosen.ranks))
    counted = count(
        shape,
        lora.method,
        targets,
        bias=lora.bias,
        settings=lora.method_settings,
        saved=listed(lora.modules_to_save),
        tokens=len(set(listed(lora.trained_tokens))),
        ends=[m for m in chosen.layers if m.end],
        ranks=rank_for(lora.r, chosen.ranks),
    )
    notes = [sentence[0].upper() + sentence[1:] for _, sentence, _ in chosen.errors]
    if counted.adapter is None:
        notes.append(
            f"There is no formula for the trainable parameters of {lora.method}; a dry run or "
            "a probe counts them."
        )
    elif lora.method not in PLAIN and lora.method not in KEPT:
        notes.append(
            f"Activations of {lora.method} are assumed to be those of LoRA; a dry run computes "
            "them."
        )
    return counted, notes


def _full_fine_tuning(job: Job, shape: Shape) -> Counted:
    """Full fine-tuning of all or of the selected layers."""
    layers = chosen_layers(job.train.trained_layers, shape.layers)
    ends = shape.embedding + shape.head if job.train.train_embeddings else 0
    inner = [m for m in shape.linears if layers is None or block_number(m.name) in layers]
    number = shape.layers if layers is None else len(layers)
    rest = shape.outside if layers is None else 0
    own = sum(m.parameters for m in inner) + number * shape.vectors + rest + ends
    first = 0 if layers is None or ends else min(layers, default=shape.layers)
    head = shape.vocabulary * shape.hidden if ends else 0
    return Counted((), 0, own, first_layer=first, head=head)


def method_of(job: Job) -> str:
    """The LoRA method, or that of full fine-tuning."""
    return str(job.lora.method) if job.lora is not None else FULL_FINE_TUNING


def mode_of(job: Job, machine: Machine) -> Mode:
    """How the engine computes this training's steps."""
    dtype = job.base.dtype
    if dtype == "auto":
        dtype = machine.auto_dtype
    full, half = job.lora is None, dtype != "float32"
    emulated = dtype == "bfloat16" and machine.device != "cuda" and not machine.bfloat16
    whole = job.base.quantization == "none"
    single = full or not half or (emulated and whole and method_of(job) in FLOAT32_BASE)
    mixture = job.shape is not None and any(m.experts > 1 for m in job.shape.linears)
    wide = emulated and whole and not mixture and not single
    padded = is_padded(job)
    at_once = full or dtype == "float16" or _adapts_head(job.lora)  # all logits
    return Mode(
        weights=4 if single or wide else 2,
        stored=2 if wide else 0,
        adapter=4,
        autocast=half and not (emulated and (single or wide)),
        quantization="none" if full else job.base.quantization,
        double_quant=job.base.double_quant,
        checkpointing=job.train.gradient_checkpointing,
        head="rows" if at_once else "chunks",
        masked=padded and job.train.batch_size > 1,
        dropout=job.lora.dropout if job.lora is not None else 0.0,
        device="cuda" if machine.device == "cuda" else "cpu",
        full=full,
        repeats_keys=machine.device == "cuda" and not (half and machine.bfloat16),  # FlashAttention
        joined=not padded and (job.train.batch_size > 1 or job.train.batching == "packed"),
        fused=is_fused(job),
    )


def is_fused(job: Job) -> bool:
    """Whether a training is assumed to use the fused functions (``studio.training.fused``): where they support all
    layers of the shape. They may be used for a part of other models too, which then need less than estimated."""
    if job.lora is None or job.shape is None or not job.train.fused:
        return False
    plain = job.lora.method in FUSED and not job.lora.dropout and job.lora.bias == "none"
    ends = {m.name.rpartition(".")[2] for m in job.shape.linears}
    supported = (
        job.shape.norm == "rms"
        and job.shape.gated
        and job.shape.activation in ("silu", "gelu_pytorch_tanh")
        and all(m.experts == 1 for m in job.shape.linears)
        and ends >= {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    )
    return plain and supported and job.base.quantization == "none"


def is_padded(job: Job) -> bool:
    """Whether a training pads its rows, by choice or because its method or its model needs it
    (``studio.training.batch.batching``), as far as that is known without the model."""
    masks_only = job.shape is not None and job.shape.eager_attention
    return (
        job.train.batching == "padded"
        or method_of(job) == "alora"
        or (job.train.batching == "padding_free" and masks_only)
    )


def _adapts_head(lora: LoraSettings | None) -> bool:
    """Whether the output head has an adapter: its logits are then computed at once."""
    names = listed(lora.target_modules) if lora is not None else []
    return any(n.rpartition(".")[2] in HEADS for n in names)


def longest_batch(job: Job, data: DataFacts | None, mode: Mode) -> Batch:
    """The largest possible micro-batch. The fraction of trained tokens of single rows is unknown,
    so it is assumed to be 1.5 times the mean, and 1 for unknown data."""
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
        train.batch_size,
        length,
        max(1, round(tokens * share)),
        accumulated=train.gradient_accumulation_steps > 1,
    )
