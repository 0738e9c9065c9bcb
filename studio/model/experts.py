"""The experts of a mixture, whose matrices are joined in one weight when the model is loaded.

Why: a model folder lists them one by one (``experts.3.w1``), and transformers keeps those of a block in
two weights of three dimensions, ``experts.gate_up_proj`` and ``experts.down_proj``. An adapter goes on
such a weight, so the experts of a block are trained all or none, and gate and up have one rank. It knows
names only. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from studio.model.layer_names import all_ends, is_joined, joined_name, taker
from studio.model.layers import LinearModule

Weights = dict[str, list[LinearModule]]
"""The layers of each joined weight, by its name."""


def joined(layers: Iterable[LinearModule]) -> Weights:
    """The joined weights that some of these layers are in; other layers are left out."""
    groups: Weights = {}
    for layer in layers:
        name = joined_name(layer.name)
        if is_joined(name):
            groups.setdefault(name, []).append(layer)
    return groups


def half_chosen(every: Weights, kept: Weights) -> tuple[str, LinearModule] | None:
    """A joined weight of which only a part is kept, with a layer of it that is not."""
    for weight, members in kept.items():
        if len(members) < len(every[weight]):
            names = {m.name for m in members}
            return weight, next(m for m in every[weight] if m.name not in names)
    return None


def weight_names(
    every: Weights, kept: Weights, plain: Sequence[str], names: Sequence[str], exact: bool
) -> list[str]:
    """The shortest target names for the chosen layers.

    ``plain`` are the chosen layers that are not experts. With ``exact``, ``names`` select exactly the chosen
    layers. A name that matches experts as well as other layers is replaced by the full names.
    """
    found = list(plain)
    if exact:
        experts = all_ends([*kept, *(m.name for members in kept.values() for m in members)])
        short = [n for n in names if not is_joined(n) and n not in experts]
        covered = taker(short)
        found = short + [n for n in plain if not covered(n)]
    wanted, own = _by_part(every), _by_part(kept)
    parts = [f"experts.{p}" for p, count in own.items() if count == wanted[p]]
    return found + parts + [w for w in kept if f"experts.{w.rpartition('.')[2]}" not in parts]


def _by_part(weights: Iterable[str]) -> Counter[str]:
    return Counter(w.rpartition(".")[2] for w in weights)
