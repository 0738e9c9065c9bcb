"""The tensors that a model of a known architecture consists of: their names in its files and their shapes.

They follow from ``config.json`` and the table of families, so that a missing, surplus or misshapen
tensor is found from the headers of the weight files, without torch. For other architectures the Base
model step asks transformers. ``tests/studio/training/test_expected_tensors.py`` verifies each family.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from studio.model.families import FAMILIES, Config, Family
from studio.model.family_shape import EXPERT_NAMES, family_shape, filled
from studio.model.layer_names import block_number
from studio.model.layers import CONV1D_MODELS
from studio.model.shapes import Linear, Shape
from studio.model.weight_files import Stored

Shapes = dict[str, tuple[int, ...]]
_IGNORED = re.compile(
    r"rotary_emb\.inv_freq$|(^|\.)position_ids$|(attn|attention|crossattention)\.(bias|masked_bias)$"
)
"""Buffers in files of earlier versions of transformers, which does not read them any more."""
_NEW_HEAD = "lm_head."  # the name that transformers 5 gives to the head of every family
_OTHER_LAYERS = ("add_cross_attention", "_remove_final_layer_norm")
_OLD_EXPERTS = {"mixtral": "block_sparse_moe"}


@dataclass(frozen=True)
class Differences:
    """How the stored tensors differ from those that the config describes; all empty if they do not.

    ``shapes`` maps a name to its stored and its described shape. ``layers`` are the numbers of stored
    and of described layers; they differ only if nothing else does.
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    layers: tuple[int, int]


def differences(config: Config, stored: Mapping[str, Stored]) -> Differences | None:
    """Compare stored tensors with the config; ``None`` for an architecture without a table."""
    shape = family_shape(config) if config.get("model_type") in FAMILIES else None
    if shape is None or not _is_plain(config, shape):
        return None
    family = FAMILIES[shape.model_type]
    expected = _expected(filled(config), family, shape, stored)
    start = f"{family.prefix.partition('.')[0]}."
    place: dict[str, str] = {}
    surplus = []
    for name in stored:
        # As in transformers, the files of a model without its head need not name the base model.
        given = name.replace(_NEW_HEAD, f"{family.head}.") if name.startswith(_NEW_HEAD) else name
        names = (given, start + given, given.removeprefix(start))
        full = next((n for n in names if n in expected), None)
        if full is not None:
            place[full] = name
        elif not _IGNORED.search(name):
            surplus.append(name)
    missing = [n for n in expected if n not in place]
    ends = {f"{family.embedding}.weight", f"{family.head}.weight"}
    if shape.tied:  # one of them is enough
        there = ends if ends & place.keys() else {f"{family.head}.weight"}
        missing = [n for n in missing if n not in there]
    wrong = {
        place[n]: (stored[place[n]].shape, wanted)
        for n, wanted in expected.items()
        if n in place and stored[place[n]].shape != wanted
    }
    layers = (_layers(stored, family), shape.layers)
    beyond = [block_number(n) or 0 for n in (*missing, *surplus)]
    if min(beyond, default=0) < min(layers):  # other tensors differ, too
        layers = (shape.layers, shape.layers)
    return Differences(tuple(missing), tuple(surplus), wrong, layers)


def _layers(stored: Collection[str], family: Family) -> int:
    """The number of layers in the weights, from the largest number in their names."""
    layer = re.compile(rf"(?:^|\.){family.prefix.rpartition('.')[2]}\.(\d{{1,9}})\.")
    return 1 + max((int(m[1]) for n in stored if (m := layer.search(n))), default=-1)


def _is_plain(config: Config, shape: Shape) -> bool:
    """Whether the table describes all parts of the layers."""
    mixture = shape.model_type in EXPERT_NAMES
    return (
        not any(config.get(key) for key in _OTHER_LAYERS)
        and config.get("layer_norm_elementwise_affine", True) is True
        and mixture == any(m.experts > 1 for m in shape.linears)
    )


def _expected(c: Config, family: Family, shape: Shape, stored: Collection[str]) -> Shapes:
    found: Shapes = {f"{family.embedding}.weight": (shape.vocabulary, shape.hidden)}
    if family.position_name:
        found[f"{family.position_name}.weight"] = (family.positions(c), shape.hidden)
    joined = any(n.endswith(".experts.gate_up_proj") for n in stored)
    experts = _expert_place(shape, stored)
    for linear in shape.linears:
        if linear.experts > 1:
            found.update(_experts(linear, joined, experts))
        else:
            found.update(_linear(linear, shape))
    for layer in range(shape.layers):
        place = f"{family.prefix}.{layer}."
        for norm in family.norms:
            found.update(_norm(place + norm, shape.hidden, family))
        found.update(_qk_norms(f"{place}{family.attention}.", family, shape))
        if any(m.experts > 1 for m in shape.linears):
            count = next(m.experts for m in shape.linears if m.experts > 1)
            found[f"{place}{experts}.gate.weight"] = (count, shape.hidden)
    found.update(_norm(family.final_norm, shape.hidden, family))
    found[f"{family.head}.weight"] = (shape.vocabulary, shape.hidden)
    if shape.head_bias:
        found[f"{family.head}.bias"] = (shape.vocabulary,)
    return found


def _linear(linear: Linear, shape: Shape) -> Shapes:
    wide = (linear.width_out, linear.width_in)
    transposed = shape.model_type in CONV1D_MODELS
    found: Shapes = {f"{linear.name}.weight": wide[::-1] if transposed else wide}
    if linear.bias:
        found[f"{linear.name}.bias"] = (linear.width_out,)
    return found


def _norm(name: str, width: int, family: Family) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias")[: 1 + family.norm_bias]}


def _qk_norms(place: str, family: Family, shape: Shape) -> Shapes:
    if not family.qk_norm:
        return {}
    size = shape.query // shape.heads
    widths = (shape.query, shape.key_value) if family.qk_norm == "full" else (size, size)
    return {f"{place}{n}_norm.weight": (w,) for n, w in zip("qk", widths, strict=True)}


def _expert_place(shape: Shape, stored: Collection[str]) -> str:
    """The name of the part with the experts; transformers 5 gave one of them a new name."""
    old = _OLD_EXPERTS.get(shape.model_type, "mlp")
    return old if any(f".{old}." in n for n in stored) else "mlp"


def _experts(linear: Linear, joined: bool, place: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The weights of all experts of a layer, joined in the file or one by one."""
    if joined:
        name = linear.name.replace(".mlp.", f".{place}.")
        yield name, (linear.experts, linear.width_out, linear.width_in)
        return
    for alias in linear.aliases:
        start, _, last = alias.replace(".mlp.", f".{place}.").rpartition(".")
        for number in range(linear.experts):
            width = linear.width_out // linear.fused
            yield f"{start}.{number}.{last}.weight", (width, linear.width_in)
