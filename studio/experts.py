"""The experts of a mixture, whose matrices are joined in one weight when the model is loaded.

Why: a model folder lists them one by one (``experts.3.w1``), and transformers keeps those of a block in
two weights of three dimensions, ``experts.gate_up_proj`` and ``experts.down_proj``. An adapter goes on
such a weight, so the experts of a block are trained all or none, and gate and up have one rank. It knows
names only. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studio.layer_names import is_joined, joined_name, taker
from studio.layers import LinearModule


def joined(layers: Iterable[LinearModule]) -> dict[str, list[LinearModule]]:
    """The layers of each joined weight, by its name; other layers are left out."""
    groups: dict[str, list[LinearModule]] = {}
    for layer in layers:
        name = joined_name(layer.name)
        if is_joined(name):
            groups.setdefault(name, []).append(layer)
    return groups


def half_chosen(
    modules: Sequence[LinearModule], chosen: Sequence[LinearModule]
) -> tuple[str, LinearModule] | None:
    """A joined weight of which only a part is chosen, with a layer of it that is not."""
    kept = joined(chosen)
    if not kept:
        return None
    names = {m.name for m in chosen}
    for weight, members in joined(modules).items():
        left = [m for m in members if m.name not in names]
        if weight in kept and left:
            return weight, left[0]
    return None


def weight_names(
    modules: Sequence[LinearModule],
    chosen: Sequence[LinearModule],
    names: Sequence[str],
    whole: bool,
) -> list[str]:
    """What an adapter of ``chosen`` is put on, as short as the names allow. ``names`` match exactly
    these layers when they are ``whole``; a name that also means experts is written out."""
    kept = joined(chosen)
    plain = [m.name for m in chosen if not is_joined(joined_name(m.name))]
    if whole:
        experts = [m.name for members in kept.values() for m in members]
        short = [n for n in names if not is_joined(n) and not any(map(taker([n]), experts))]
        covered = taker(short)
        plain = short + [n for n in plain if not covered(n)]
    every = _by_part(joined(modules))
    own = _by_part(kept)
    parts = [f"experts.{p}" for p, count in own.items() if count == every[p]]
    single = [w for w in kept if f"experts.{w.rpartition('.')[2]}" not in parts]
    return plain + parts + single


def _by_part(weights: Iterable[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for weight in weights:
        part = weight.rpartition(".")[2]
        counted[part] = counted.get(part, 0) + 1
    return counted
