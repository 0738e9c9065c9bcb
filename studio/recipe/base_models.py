"""The base models that a user can choose from, each with its facts and whether a training with it fits.

They are the starter, local folders, GGUF files, models in the cache of the Hub, widely used models of the Hub, and what
a search on the Hub found.
Only names, configs and headers are read. Whether a model fits is the estimate of the graph that the choice gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts
from studio.graph import edits
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import Registry
from studio.model.facts import ModelFacts, folder_facts, gguf_facts, known_facts, model_facts
from studio.model.folder_check import folder_faults, gguf_faults
from studio.model.folder_files import json_or_empty
from studio.model.hub_search import HubModel
from studio.model.known_models import KnownModel, known_models
from studio.model.models import (
    STARTER_PREFIX,
    STARTERS,
    cached_models,
    local_folder,
)
from studio.model.supported import supported
from studio.node_settings.base_model import BaseModelSettings
from studio.recipe.fit import GB, RecipeFacts, fitting, weight_bytes
from studio.recipe.new_training import NewTraining, new_training

Source = Literal["starter", "folder", "gguf", "hub"]
Fit = Literal["fits", "4 bits", "no", "unknown"]
_ORDER: dict[Fit, int] = {"fits": 0, "4 bits": 1, "unknown": 2, "no": 3}
_MOST_FOUND = 200
_DEEPEST = 2
_TOO_LARGE = 40_000


@dataclass(frozen=True)
class Candidate:
    """A base model: ``model`` as the setting names it. ``on_disk`` is whether all its files are on this machine,
    ``download`` the bytes to download otherwise, if known. ``fault`` says why it cannot be used."""

    model: str
    title: str
    source: Source
    facts: ModelFacts
    on_disk: bool = True
    download: int | None = None
    gated: bool = False
    fault: str = ""


@dataclass(frozen=True)
class BaseChoice:
    """A candidate with the graph that choosing it gives. ``estimate`` is that of its training, if its architecture is
    known here; ``weights`` are the bytes of its weights in memory otherwise."""

    candidate: Candidate
    fit: Fit
    graph: Graph | None = None
    estimate: Estimate | None = None
    weights: int | None = None
    training: NewTraining | None = None
    quantization: str = "none"


# ------------------------------------------------------------------ what is there


def local_candidates(
    recent: Iterable[str], folders: Iterable[Path], write: Callable[[Path], str] = str
) -> list[Candidate]:
    """The models on this machine, and the starter: used before (``recent``), in the ``folders`` to look in, and in the
    cache of the Hub. ``write`` gives a path as the setting stores it."""
    found: dict[str, Candidate] = {}
    for name in STARTERS:
        found[name] = _starter(name)
    for path in (*(Path(name) for name in recent), *_models_in(folders)):
        candidate = _local(path, write)
        if candidate is not None:
            found.setdefault(str(path), candidate)
    for repo, folder in cached_models():
        candidate = _cached(repo, folder)
        if candidate is not None:
            found.setdefault(repo, candidate)
    return list(found.values())


def known_candidates(found: Iterable[Candidate]) -> list[Candidate]:
    """Widely used models of the Hub that are not among these."""
    names = {candidate.model for candidate in found}
    return [_known(known) for known in known_models().values() if known.model not in names]


def _known(known: KnownModel) -> Candidate:
    facts = known_facts(known)
    download = known.download or 2 * (facts.parameters or 0)
    return Candidate(known.model, known.title, "hub", facts, False, download, known.gated)


def hub_candidate(found: HubModel) -> Candidate:
    """A model that a search found."""
    kept = local_folder(found.id, Path())
    candidate = _cached(found.id, kept) if kept is not None else None
    facts = ModelFacts(
        architecture=found.architecture,
        parameters=found.parameters,
        chat_template=found.chat_template,
        licence=found.licence,
    )
    if candidate is not None and not candidate.fault:
        return candidate
    return Candidate(
        found.id, found.id, "hub", facts, False, found.bytes_to_download, found.gated, found.fault
    )


def _starter(name: str) -> Candidate:
    model, starter = STARTER_PREFIX + name, STARTERS[name]
    facts = model_facts(model, Path())
    assert facts is not None
    on_disk = local_folder(model, Path()) is not None
    return Candidate(model, starter.title, "starter", facts, on_disk, None)


def _local(path: Path, write: Callable[[Path], str]) -> Candidate | None:
    """A model folder or a GGUF file."""
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            return None
        faults = gguf_faults(path)
        facts = (gguf_facts(path) if not faults else None) or ModelFacts()
        fault = faults[0].sentence if faults else ""
        return Candidate(write(path), path.stem, "gguf", facts, fault=fault)
    found = folder_facts(path)
    if found is None:
        return None
    faults = folder_faults(path)
    return Candidate(
        write(path), path.name, "folder", found, fault=faults[0].sentence if faults else ""
    )


def _cached(repo: str, folder: Path) -> Candidate | None:
    """A model in the cache of the Hub; ``None`` for one that is no language model."""
    facts, known = folder_facts(folder), supported()
    kind = json_or_empty(folder, "config.json").get("model_type")
    if facts is None or (known is not None and kind not in known.causal and not facts.own_code):
        return None
    missing = next((f for f in folder_faults(folder) if f.code != "needs_own_code"), None)
    return Candidate(repo, repo, "hub", facts, missing is None)


def _models_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Model folders and GGUF files in these folders and two levels below."""
    found = 0
    for folder in folders:
        queue = [(folder, 0)]
        while queue and found < _MOST_FOUND:
            place, depth = queue.pop(0)
            if (place / "config.json").is_file():
                found += 1
                yield place
                continue
            try:
                inside = sorted(p for _, p in zip(range(_TOO_LARGE), place.iterdir(), strict=False))
            except OSError:  # a folder that cannot be read has no models to offer
                continue
            for path in inside:
                if path.suffix.lower() == ".gguf" and path.is_file():
                    found += 1
                    yield path
                elif depth < _DEEPEST and path.is_dir() and not path.name.startswith("."):
                    queue.append((path, depth + 1))


# ------------------------------------------------------------------ whether it fits


@dataclass(frozen=True)
class Purpose:
    """What a base model is chosen for: a new training on the node ``dataset``, or the Base model node ``base``."""

    graph: Graph
    registry: Registry
    project_dir: Path
    facts: Facts
    dataset: str = ""
    base: str = ""


def choices(candidates: Iterable[Candidate], purpose: Purpose) -> list[BaseChoice]:
    """Each candidate with the graph that it gives, and whether that fits; what fits comes first, then what is on this
    machine. On a GPU larger models come first, on a CPU smaller ones, because there time is what limits."""
    made = [choice_of(candidate, purpose) for candidate in candidates]
    return in_order(made, purpose.facts)


def in_order(made: Sequence[BaseChoice], facts: Facts) -> list[BaseChoice]:
    """The choices in the order in which they are shown."""
    sign = -1 if facts.machine.device == "cuda" else 1
    return sorted(
        made,
        key=lambda c: (
            bool(c.candidate.fault),
            _ORDER[c.fit],
            not c.candidate.on_disk and c.candidate.source != "starter",
            sign * (c.candidate.facts.parameters or 0),
            c.candidate.title.lower(),
        ),
    )


def choice_of(candidate: Candidate, purpose: Purpose) -> BaseChoice:
    """One candidate with the graph that it gives."""
    if candidate.fault:
        return BaseChoice(candidate, "unknown")
    if purpose.dataset:
        return _for_training(candidate, purpose)
    return _for_node(candidate, purpose)


def _for_training(candidate: Candidate, purpose: Purpose) -> BaseChoice:
    made = new_training(
        purpose.graph,
        purpose.registry,
        purpose.project_dir,
        purpose.dataset,
        candidate.model,
        purpose.facts,
        candidate.facts,
    )
    quantization = _quantization(made.graph, made.base)
    if made.estimate.fits is None:
        fit, _, weights = _rough(candidate.facts, purpose, quantization)
        return BaseChoice(candidate, fit, made.graph, None, weights, made, quantization)
    fit = _fit_of(made.estimate, quantization)
    return BaseChoice(candidate, fit, made.graph, made.estimate, None, made, quantization)


def _for_node(candidate: Candidate, purpose: Purpose) -> BaseChoice:
    """The graph with another model in a Base model node; in 4 bits if it fits only so."""
    graph = with_model(purpose.graph, purpose.base, candidate.model)
    now = _quantization(graph, purpose.base)
    found = _estimated(graph, purpose)
    if found is None or found.fits is None:
        fit, quantization, weights = _rough(candidate.facts, purpose, now)
        if quantization != now:
            graph = edits.set_setting(graph, purpose.base, "quantization", quantization)
        return BaseChoice(candidate, fit, graph, None, weights, None, quantization)
    if found.fits or now != "none":
        return BaseChoice(candidate, _fit_of(found, now), graph, found, quantization=now)
    smaller = edits.set_setting(graph, purpose.base, "quantization", "nf4")
    then = _estimated(smaller, purpose)
    if then is not None and then.fits and _trains_quantized(graph, purpose):
        return BaseChoice(candidate, "4 bits", smaller, then, quantization="nf4")
    return BaseChoice(candidate, "no", graph, found, quantization=now)


def with_model(graph: Graph, base: str, model: str) -> Graph:
    """The graph with another model in a Base model node; a revision belongs to the earlier model."""
    if graph.node(base).settings.get("model", BaseModelSettings().model) != model:
        graph = edits.reset_setting(graph, base, "revision")
    return edits.set_setting(graph, base, "model", model)


def _quantization(graph: Graph, base: str) -> str:
    return str(graph.node(base).settings.get("quantization", "none"))


def _fit_of(found: Estimate, quantization: str) -> Fit:
    if found.fits is False:
        return "no"
    return "4 bits" if quantization in ("nf4", "fp4") else "fits"


def _estimated(graph: Graph, purpose: Purpose) -> Estimate | None:
    """The estimate of the first training with this base; of one with default settings, if there is none."""
    trains = (
        n.id for n in graph.nodes if n.type == "train" and purpose.base in graph.upstream(n.id)
    )
    train = next(trains, None)
    if train is None:
        base = graph.node(purpose.base)
        alone = Graph(nodes=(base, Node("lora_", "lora"), Node("train_", "train")))
        alone = edits.connect(alone, Wire(base.id, "model", "lora_", "model"))
        graph, train = edits.connect(alone, Wire("lora_", "model", "train_", "model")), "train_"
    return estimate_graph(graph, purpose.registry, purpose.project_dir, purpose.facts, train)


def _trains_quantized(graph: Graph, purpose: Purpose) -> bool:
    """Whether the method after the base trains on quantized weights."""
    after = [n for n in graph.nodes if n.type == "lora" and purpose.base in graph.upstream(n.id)]
    trains = [n for n in graph.nodes if n.type == "train" and purpose.base in graph.upstream(n.id)]
    if trains and not after:
        return False  # full fine-tuning
    methods = [str(n.settings.get("method", "lora")) for n in after] or ["lora"]
    variants = [purpose.registry.variant("adapter", name) for name in methods]
    return all(v is not None and v.payload.trains_on("nf4") for v in variants)


def _rough(facts: ModelFacts, purpose: Purpose, quantization: str) -> tuple[Fit, str, int | None]:
    """Whether it fits, the quantization, and the bytes of the weights, for an architecture that is not known here."""
    if not facts.parameters:
        return "unknown", quantization, None
    machine = purpose.facts.machine
    asked = RecipeFacts("", parameters=facts.parameters, memory_gb=machine.available / GB)
    now = quantization != "none"
    if fitting(asked, now, True):
        return "4 bits" if now else "fits", quantization, round(weight_bytes(asked, now))
    quantizes = bool(purpose.dataset) or _trains_quantized(purpose.graph, purpose)
    if not now and quantizes and fitting(asked, True, True):
        return "4 bits", "nf4", round(weight_bytes(asked, True))
    return "no", quantization, round(weight_bytes(asked, now))
