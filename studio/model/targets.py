"""The layers of a model that an adapter is added to: names, presets, a pattern, a range,
exclusions.

The canvas checks them after every edit, the LoRA step resolves them, and the target picker shows
them. All names are those of real layers; a name without a match is a problem and never leads to an
adapter with fewer layers than requested. No torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.model.experts import Weights, half_chosen, joined, weight_names
from studio.model.families import FAMILIES
from studio.model.folder_files import read_json
from studio.model.layer_names import block_number, is_joined, joined_name, matches, taker
from studio.model.layer_pattern import PATTERN, PatternError, matched_names
from studio.model.layers import TOWERS, LinearModule, resolve_targets
from studio.model.weight_files import tensor_shapes, weight_files
from studio.node_settings.layer_range import HINT, LayerRangeError, layer_numbers
from studio.node_settings.lora import LoraSettings

FieldError = tuple[str, str, str]
"""A setting's name, a sentence, and a hint."""


@dataclass(frozen=True)
class Chosen:
    """``names`` for PEFT, the ``layers`` that they match, and errors."""

    names: list[str]
    layers: list[LinearModule]
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, int] = field(default_factory=dict)
    errors: list[FieldError] = field(default_factory=list)


def choose(
    modules: Sequence[LinearModule],
    settings: LoraSettings,
    model: str,
    ends: Sequence[LinearModule] = (),
) -> Chosen:
    """The layers selected by a LoRA node's settings; ``model`` is the model's name in sentences.
    ``ends`` are its embedding and its head (``end_modules``), which only their names select; a layer
    range does not concern them."""
    wanted = settings.target_modules
    return _chosen(
        tuple(modules),
        tuple(ends),
        wanted if isinstance(wanted, str) else tuple(wanted),
        settings.layers,
        settings.exclude,
        settings.rank_pattern,
        settings.alpha_pattern,
        model,
    )


@lru_cache(maxsize=16)
def _chosen(
    modules: tuple[LinearModule, ...],
    ends: tuple[LinearModule, ...],
    wanted: str | tuple[str, ...],
    layer_range: str,
    exclude: str,
    rank_pattern: str,
    alpha_pattern: str,
    model: str,
) -> Chosen:
    """Cached, because several checks and the estimate need it after each edit."""
    names, errors = _wanted(modules, ends, wanted, model)
    taken = taker(names)
    at_ends = [] if isinstance(wanted, str) and wanted.startswith(PATTERN) else ends
    chosen_ends = [m for m in at_ends if taken(m.name)]
    layers = [m for m in modules if taken(m.name)]
    kept, more = _narrowed(layers, modules, layer_range, exclude, model)
    errors += more
    all_kept = len(kept) == len(layers)
    kept = [*kept, *chosen_ends]
    weights = joined(kept)
    if weights:
        every = joined(modules)
        plain = [m.name for m in kept if not is_joined(joined_name(m.name))]
        names = weight_names(every, weights, plain, names, all_kept)
        errors += _half_chosen(every, weights, exclude)
    elif not all_kept:
        names = [m.name for m in kept]
    if not kept and not errors:
        errors.append(("target_modules", "no layers are left to train.", "Choose more layers."))
    ranks, more = _pattern(rank_pattern, kept, "rank_pattern")
    alphas, also = _pattern(alpha_pattern, kept, "alpha_pattern")
    return Chosen(names, kept, ranks, alphas, [*errors, *more, *also])


def _half_chosen(every: Weights, kept: Weights, exclude: str) -> list[FieldError]:
    found = half_chosen(every, kept)
    if found is None:
        return []
    weight, missing = found
    field_name = "exclude" if exclude.strip() else "target_modules"
    sentence = (
        f"{missing.name} is part of a joined weight; all of its parts must be trained together."
    )
    return [
        (
            field_name,
            sentence,
            f"Enter experts.{weight.rpartition('.')[2]}, or remove its parts.",
        )
    ]


def _wanted(
    modules: Sequence[LinearModule],
    ends: Sequence[LinearModule],
    wanted: str | Sequence[str],
    model: str,
) -> tuple[list[str], list[FieldError]]:
    """Target names for PEFT; a regular expression is replaced by the layers that it matches."""
    if isinstance(wanted, str) and wanted.startswith(PATTERN):
        try:
            found = matched_names(wanted, (m.name for m in modules))
        except PatternError as error:
            return [], [("target_modules", str(error), "")]
        hint = f"The expression must match full names, such as {modules[0].name}."
        unmatched = ("target_modules", f"“{wanted}” matches no linear layer of {model}.", hint)
        return found, [] if found else [unmatched]
    names, wrong = resolve_targets(modules, wanted)
    found = [n for n in wrong if any(matches(m.name, n) for m in ends)]
    names, wrong = [*names, *found], [n for n in wrong if n not in found]
    errors = [_wrong_target(modules, n, model) for n in wrong]
    if not names and not wrong:
        sentence = wrong_target_sentence("an empty list", model)
        errors.append(("target_modules", sentence, nearest_hint(modules, "")))
    return names, errors


def _within(
    layers: list[LinearModule], modules: Sequence[LinearModule], layer_range: str, model: str
) -> tuple[list[LinearModule], list[FieldError]]:
    """The layers whose block numbers are in the range; all layers if the range is empty."""
    if not layer_range.strip():
        return layers, []
    there = {n for m in modules if (n := block_number(m.name)) is not None}
    try:
        numbers = layer_numbers(layer_range, max(there, default=-1) + 1)
    except LayerRangeError as error:
        return layers, [("layers", str(error), HINT)]
    if numbers is None:
        return layers, []
    errors: list[FieldError] = []
    missing = sorted(numbers - there)
    if missing:
        last = f"The last layer is {max(there)}." if there else ""
        errors.append(("layers", f"{model} has no layer {missing[0]}.", last))
    return [m for m in layers if block_number(m.name) in numbers], errors


def _narrowed(
    layers: list[LinearModule],
    modules: Sequence[LinearModule],
    layer_range: str,
    exclude: str,
    model: str,
) -> tuple[list[LinearModule], list[FieldError]]:
    """The layers within the range, without the excluded ones."""
    layers, errors = _within(layers, modules, layer_range, model)
    for name in listed(exclude):
        excluded = taker([name])
        kept = [m for m in layers if not excluded(m.name)]
        if len(kept) == len(layers):
            errors.append(
                (
                    "exclude",
                    f"“{name}” matches none of the chosen layers.",
                    nearest_hint(layers, name),
                )
            )
        layers = kept
    return layers, errors


def listed(text: str | Sequence[str]) -> list[str]:
    """The parts of a comma-separated list."""
    parts = text.split(",") if isinstance(text, str) else text
    return [p.strip() for p in parts if p.strip()]


def _pattern(
    text: str, layers: Sequence[LinearModule], setting: str
) -> tuple[dict[str, int], list[FieldError]]:
    """Numbers by layer name, from “down_proj=32, q_proj=8”; names are escaped for PEFT.

    The first match of a layer applies. PEFT saves patterns in another order, so overlapping ones
    are expanded to full names.
    """
    found: dict[str, int] = {}
    own: dict[str, int] = {}
    errors: list[FieldError] = []
    overlap = False
    for part in listed(text):
        name, number = named_number(part)
        if number is None:
            hint = "Write name=number, such as down_proj=32."
            errors.append((setting, f"“{part}” is not written as name=number.", hint))
            continue
        fits = taker([name])
        matched = [m.name for m in layers if fits(m.name)]
        if not matched:
            sentence = f"“{name}” matches none of the chosen layers."
            errors.append((setting, sentence, nearest_hint(layers, name)))
            continue
        overlap = overlap or any(m in own for m in matched)
        found[re.escape(name)] = number
        own = {**dict.fromkeys(matched, number), **own}
    weights = joined(layers) if own else {}
    if any(m.name in own for members in weights.values() for m in members):
        errors += _uneven(weights, own, setting)
        overlap = True
    if overlap:
        found = {re.escape(joined_name(name)): number for name, number in own.items()}
    return found, errors


def named_number(part: str) -> tuple[str, int | None]:
    """The name and the number of “down_proj=32”; ``None`` for an invalid rank or alpha."""
    name, _, number = (p.strip() for p in part.partition("="))
    fits = number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= 4096
    return name, int(number) if fits else None


def _uneven(weights: Weights, own: dict[str, int], setting: str) -> list[FieldError]:
    """An error if matrices that are joined in one weight have different ranks or alphas."""
    for weight, members in weights.items():
        if len({own.get(m.name) for m in members}) > 1:
            given = next(m.name for m in members if m.name in own)
            hint = f"Enter experts.{weight.rpartition('.')[2]}={own[given]}."
            return [
                (
                    setting,
                    f"{given} is part of a joined weight, whose parts share one value.",
                    hint,
                )
            ]
    return []


def _wrong_target(modules: Sequence[LinearModule], name: str, model: str) -> FieldError:
    """The error of a target without a match; embedding and head have another setting."""
    last = name.rpartition(".")[2]
    if last not in ENDS or any(m.name.rpartition(".")[2] == last for m in modules):
        return "target_modules", wrong_target_sentence(name, model), nearest_hint(modules, name)
    what = "output head" if last in HEADS else "embedding"
    return (
        "target_modules",
        f"{model} has no {what} called “{name}”.",
        "Typical names are embed_tokens and lm_head, or wte for GPT-2.",
    )


def wrong_target_sentence(name: str, model: str) -> str:
    """The sentence about a target module without a match."""
    return f"“{name}” matches no linear layer of {model}."


def nearest_hint(modules: Sequence[LinearModule], name: str) -> str:
    """The real names nearest to a wrong one, then all of them."""
    real = sorted({m.name.rpartition(".")[2] for m in modules})
    near = difflib.get_close_matches(name.rpartition(".")[2], real, n=3, cutoff=0.5)
    listed_names = "The model contains: " + ", ".join(real) + "."
    return f"Did you mean {' or '.join(near)}? {listed_names}" if near else listed_names


@dataclass(frozen=True)
class FullyTrainedModule:
    """A module that is fully trained and saved with the adapter."""

    name: str
    parameters: int
    tied: bool


def fully_trained_modules(
    folder: Path, names: Iterable[str]
) -> Iterator[tuple[str, FullyTrainedModule | None]]:
    """Each name with its module in the model folder, or ``None`` if it matches nothing.

    A head that shares its weights with the embedding is not in the files, but can be trained.
    """
    config = read_json(folder, "config.json")
    tied = is_tied(config)
    family = FAMILIES.get(str(config.get("model_type")))
    heads = (family.head,) if family is not None else HEADS
    shapes = [item for file in weight_files(folder) for item in tensor_shapes(file)]
    sizes = {n: _size(shape) for n, shape in shapes}
    embedding = next((n for n in sizes if n.endswith(_EMBEDDINGS)), None)
    for name in names:
        inside = [n for n in sizes if matches(n.rpartition(".")[0], name)]
        ends = any(n == embedding or n.rpartition(".")[0] in HEADS for n in inside)
        if not inside and tied and name in heads and embedding is not None:
            inside, ends = [embedding], True
        total = sum(sizes[n] for n in inside)
        yield name, FullyTrainedModule(name, total, tied and ends) if inside else None


def end_modules(folder: Path) -> list[LinearModule]:
    """The embedding and the head of a model folder; empty if it cannot be read. A head that shares the
    matrix of the embedding is not in the files."""
    try:
        config = read_json(folder, "config.json")
        shapes = dict(item for file in weight_files(folder) for item in tensor_shapes(file))
    except (OSError, ValueError, TypeError):
        return []
    found = []
    for name, shape in shapes.items():
        stem = name.removesuffix(".weight")
        last = stem.rpartition(".")[2]
        if stem == name or last not in ENDS or len(shape) != 2:
            continue
        rows, columns = shape
        if last in HEADS:
            found.append(LinearModule(stem, columns, rows, end="output head"))
        elif set(TOWERS).isdisjoint(stem.split(".")):
            found.append(LinearModule(stem, rows, columns, end="embedding"))
    heads = any(m.end == "output head" for m in found)
    if not heads and len(found) == 1 and is_tied(config):
        (own,) = found
        found.append(LinearModule("lm_head", own.width_out, own.width_in, end="output head"))
    return found


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether embedding and head are one matrix; where the config says nothing, as in the class of
    the model."""
    text = config.get("text_config")
    family = FAMILIES.get(str(config.get("model_type")))
    given = [
        c["tie_word_embeddings"]
        for c in (config, text)
        if isinstance(c, dict) and "tie_word_embeddings" in c
    ]
    return bool(given[0]) if given else bool(family and family.tied)


HEADS = ("lm_head", "embed_out")
ENDS = ("embed_tokens", "wte", "word_embeddings", "embed_in", *HEADS)
"""Names of embeddings and heads."""
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for width in shape:
        total *= width
    return total
