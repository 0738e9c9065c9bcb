"""The names of layers: which target means which layer, and how the weight is called that experts share.

Why apart: the list of a model's layers, the checks, the estimate and the training must all read a name
alike. Only strings; no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

GATE_UP, DOWN = "gate_up_proj", "down_proj"
_PARTS = {
    "w1": GATE_UP,
    "w3": GATE_UP,
    "gate_proj": GATE_UP,
    "up_proj": GATE_UP,
    GATE_UP: GATE_UP,
    "w2": DOWN,
    DOWN: DOWN,
}
_EXPERT = re.compile(r"(|.+\.)experts(?:\.\d+)?\.(\w+)")


def matches(module: str, target: str) -> bool:
    """Whether PEFT puts an adapter on ``module`` for ``target``: the name or its end."""
    return module == target or module.endswith("." + target)


def taker(targets: Iterable[str]) -> Callable[[str], bool]:
    """Whether a layer's name, or that of the weight its expert is joined in, ``matches`` one of the
    targets. It looks names up, so that a mixture with many thousand of them stays quick."""
    wanted = frozenset(targets)
    return lambda name: (
        not (wanted.isdisjoint(_ends(name)) and wanted.isdisjoint(_ends(joined_name(name))))
    )


@lru_cache(maxsize=2**17)
def _ends(name: str) -> tuple[str, ...]:
    """The name, and its ends at each dot."""
    parts = name.split(".")
    return tuple(".".join(parts[i:]) for i in range(len(parts)))


def all_ends(names: Iterable[str]) -> set[str]:
    """Every target that means one of these layers by its own name."""
    return {end for name in names for end in _ends(name)}


@lru_cache(maxsize=2**17)
def joined_name(name: str) -> str:
    """The weight that transformers joins an expert's matrix in; any other name as it is."""
    found = _EXPERT.fullmatch(name)
    part = found and _PARTS.get(found[2])
    if not found or not part:
        return name
    before = re.sub(r"(^|\.)block_sparse_moe\.$", r"\1mlp.", found[1])  # Mixtral's files call it so
    return f"{before}experts.{part}"


@lru_cache(maxsize=2**17)
def is_joined(name: str) -> bool:
    """Whether this is the name of a joined weight, or the end of one."""
    parent, _, last = name.rpartition(".")
    return parent.rpartition(".")[2] == "experts" and last in (GATE_UP, DOWN)
