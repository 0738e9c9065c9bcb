"""The Adapter Mix step: sources as plain LoRAs, the table of losses, the combination as a plain LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.node_settings.adapter_mix import PORTS, AdapterMixSettings
from studio.system import busy_files, disk
from studio.training.export.portable import NotPlain, Plain, plain_bytes, plain_form, write_plain
from studio.training.mix.combine import combined, grid, norms_and_cosines, used
from studio.training.mix.losses import losses
from studio.training.mix.verify import EXACT, reload_difference
from studio.training.model.quiet import quiet_libraries
from studio.values import (
    AdapterValue,
    DatasetValue,
    MixedLoss,
    MixedSource,
    Mixture,
)


@dataclass(frozen=True)
class Source:
    """One of the adapters: the title of its node, its description, its plain form, and its weight."""

    title: str
    value: AdapterValue
    plain: Plain
    weight: float


def mix_adapters(
    context: StepContext, inputs: Mapping[str, Any], settings: AdapterMixSettings
) -> AdapterValue:
    """Write the combined adapter and return its description. Raises ``StudioError`` for adapters of different bases,
    and for those that no LoRA can express."""
    quiet_libraries()
    if context.threads:
        torch.set_num_threads(context.threads)
    sources = _sources(context, inputs, settings)
    plains = [s.plain for s in sources]
    weights = tuple(s.weight for s in sources)
    norms, cosines = norms_and_cosines(plains)
    value = sources[0].value.model_copy(update={"train": _common([s.value.train for s in sources])})
    measured: list[MixedLoss] = []
    rows = 0
    dataset = inputs.get("dataset")
    if dataset is not None:
        points = grid(weights, settings.points)
        data = DatasetValue.model_validate(dataset)
        measured, rows = losses(context, data, value, plains, points, settings)
        weights = _chosen(context, sources, measured, weights, settings)
    context.phase("combine", "Combining the adapters")
    result = combined(plains, weights, settings)
    if not result.pairs:
        raise StudioError(
            "all weights are 0, so the result would have no effect.",
            title="The adapters have no effect",
            hint="Set the weight of at least one adapter to another value.",
            code="no_mix_weight",
            field="weight_a",
        )
    folder = context.folder / "adapter"
    needed = plain_bytes(result)
    with disk.explain_errors("the adapter", folder, needed=needed):
        disk.refuse_full("the adapter", folder, needed)
        folder.mkdir(parents=True, exist_ok=True)
        write_plain(context, result, value, folder, value.model.model.path)
    weighted = list(zip(plains, weights, strict=True))
    try:
        difference = reload_difference(context, value, folder, weighted, result, settings.method)
    except BaseException:
        busy_files.tidy(folder)
        raise
    total = sum(abs(w) * n for w, n in zip(weights, norms, strict=True))
    mixture = Mixture(
        method=settings.method,
        sources=[
            MixedSource(
                title=s.title,
                weight=w,
                share=abs(w) * n / total if total else 0.0,
                kept=s.plain.kept,
                cosines=c,
                adapter=s.value.to_json(),
            )
            for s, w, n, c in zip(sources, weights, norms, cosines, strict=True)
        ],
        kept=result.kept,
        losses=measured,
        rows=rows,
    )
    _tell(context, mixture, result, difference)
    named = {s.title: w for s, w in zip(sources, weights, strict=True)}
    loss = next((m.loss for m in measured if tuple(m.weights) == weights), None)
    metrics = {} if loss is None else {"eval_loss": loss}
    context.artifact("adapter", folder, mixture=mixture.shown(), r=result.rank, weights=used(named))
    model = value.model.model_copy(
        update={
            "method": "lora",
            "r": result.rank,
            "alpha": result.rank,
            "bias": "none",
            "target_modules": result.target_modules,
            "method_settings": {},
            "rank_pattern": {},
            "alpha_pattern": {},
            "modules_to_save": [],
            "trained_tokens": [],
        }
    )
    return AdapterValue(
        path=str(folder),
        model=model,
        dataset=None,
        train=value.train,
        metrics=metrics,
        reload_difference=difference,
        mixture=mixture,
    )


def _sources(
    context: StepContext, inputs: Mapping[str, Any], settings: AdapterMixSettings
) -> list[Source]:
    """The connected adapters in the order of their ports."""
    values = {p: AdapterValue.model_validate(inputs[p]) for p in PORTS if p in inputs}
    titles = _titles(context, list(values))
    first = next(iter(values))
    for port, value in values.items():
        ours, other = values[first].model.model, value.model.model
        if ours.weights_sha256 != other.weights_sha256:
            raise StudioError(
                f"“{titles[first]}” was trained on {_name(ours)}, and “{titles[port]}” on {_name(other)}.",
                title="The adapters have different base models",
                hint="Only adapters of one base model can be mixed.",
                code="other_mix_base",
                field=port,
            )
    context.phase("combine", "Reading the adapters")
    found = []
    for port, value in values.items():
        plain = _plain(context, value, titles[port], port, settings)
        found.append(Source(titles[port], value, plain, getattr(settings, f"weight_{port}")))
    return found


def _titles(context: StepContext, ports: Sequence[str]) -> dict[str, str]:
    """The titles of the nodes that the adapters come from; those that several share get the name of the port."""
    known = {p: context.input_titles.get(p) or f"Adapter {p.upper()}" for p in ports}
    twice = {t for t in known.values() if list(known.values()).count(t) > 1}
    return {p: f"{t} ({p.upper()})" if t in twice else t for p, t in known.items()}


def _name(model: Any) -> str:
    return Path(model.source).name if Path(model.source).is_absolute() else str(model.source)


def _plain(
    context: StepContext, value: AdapterValue, title: str, port: str, settings: AdapterMixSettings
) -> Plain:
    """The adapter as a plain LoRA; a notice says how much of its change a conversion keeps."""
    try:
        plain = plain_form(context, value, settings.max_rank, "combine")
        if plain.left:
            name = next(iter(plain.left)).removeprefix("base_model.model.")
            raise NotPlain(f"it changes {name}, which A and B cannot express")
    except NotPlain as error:
        raise StudioError(
            f"“{title}” cannot be mixed: {error}.",
            title="The adapter cannot be mixed",
            hint="Raise Maximum rank of a converted adapter."
            if error.rank_helps
            else "Merge it into the base model, or leave it out.",
            code="cannot_mix",
            field="max_rank" if error.rank_helps else port,
        ) from error
    if plain.computed:
        context.notice(
            f"“{title}” is not a plain LoRA: {len(plain.computed)} of its {len(plain.pairs)} layers were converted to "
            f"one, which keeps {100 * plain.kept:.2f} % of their change.",
            level="info",
        )
    return plain


def _common(trains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that all trainings share; those of an adapter that was loaded are not known."""
    known = [t for t in trains if t]
    if not known:
        return {}
    return {k: v for k, v in known[0].items() if all(k in t and t[k] == v for t in known)}


def _chosen(
    context: StepContext,
    sources: Sequence[Source],
    measured: Sequence[MixedLoss],
    weights: tuple[float, ...],
    settings: AdapterMixSettings,
) -> tuple[float, ...]:
    """The weights to use, and what is said about the table."""
    best = min(measured, key=lambda m: m.loss)
    own = next(m for m in measured if tuple(m.weights) == _rounded(weights, measured))
    named = used({s.title: w for s, w in zip(sources, best.weights, strict=True)})
    if settings.choose == "best":
        if not any(best.weights):
            raise StudioError(
                f"the base model without an adapter has the lowest loss of the table ({best.loss:.4f}), so that there "
                "are no weights to use.",
                title="No weights are better than the base model",
                hint="Set “Weights to use” to the weights above, or train other adapters.",
                code="no_mix_weight",
                field="choose",
            )
        context.notice(
            f"The weights with the lowest loss are used: {named} (loss {best.loss:.4f}; {own.loss:.4f} with the "
            "weights of the settings).",
            level="info",
        )
        return tuple(best.weights)
    better = f" The lowest loss of the table is {best.loss:.4f} with {named}."
    context.notice(
        f"The loss with the chosen weights is {own.loss:.4f}.{better if best is not own else ''}",
        level="info",
    )
    return tuple(own.weights)


def _rounded(weights: tuple[float, ...], measured: Sequence[MixedLoss]) -> tuple[float, ...]:
    """The chosen weights as they are in the table."""
    points = [tuple(m.weights) for m in measured]
    return min(points, key=lambda p: max(abs(a - b) for a, b in zip(p, weights, strict=True)))


def _tell(context: StepContext, mixture: Mixture, result: Plain, difference: float) -> None:
    parts = used({s.title: s.weight for s in mixture.sources})
    exact = mixture.method in EXACT
    how = "the exact sum" if exact else f"{100 * mixture.kept:.2f} % of the combined change is kept"
    of = "the sum of the adapters" if exact else "the combined changes"
    context.notice(
        f"The saved adapter was loaded by PEFT: its logits differ from those of {of} on the base model by at most "
        f"{difference:.2g}.",
        level="info",
    )
    context.notice(f"Combined: {parts}, as a LoRA of rank {result.rank}; {how}.", level="info")
    against = [
        (mixture.sources[i].title, mixture.sources[j].title)
        for i in range(len(mixture.sources))
        for j in range(i)
        if mixture.sources[i].weight * mixture.sources[j].weight * mixture.sources[i].cosines[j]
        < -0.2
    ]
    for one, other in against:
        context.notice(
            f"The changes by “{other}” and “{one}” with these weights point in opposite directions and partly cancel.",
            "Compare the result with each of them, or use TIES.",
            "info",
        )
