"""The names of layers: which target matches which layer, the block of a layer, and the joined
weight of a block's experts.

Used by the layer list, the checks, the estimate, the training and the insight. Works on strings
only; no torch.
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
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)(?:\.|$)")
_EXPERT = re.compile(r"(|.+\.)experts(?:\.\d+)?\.(\w+)")


LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")


def from_number(name: str) -> str:
    """A layer's name from its number on: the part before it depends on how the model was saved."""
    found = LAYER.search(f".{name}")
    return f".{name}"[found.start() :] if found else name


def matches(module: str, target: str) -> bool:
    """Whether PEFT puts an adapter on ``module`` for ``target``: the name or its end."""
    return module == target or module.endswith("." + target)


def block_and_part(name: str) -> tuple[int | None, str]:
    """The number of the block of a layer or weight, and its name within the block.

    The number follows the name of the list of blocks, or is the first one in families with another
    name for the list. ``None`` outside the blocks.
    """
    found = _BLOCK.search(name)
    if found:
        return int(found[1]), name[found.end() :]
    parts = name.split(".")
    place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if place is None:
        return None, name
    return int(parts[place]), ".".join(parts[place + 1 :])


def block_number(name: str) -> int | None:
    """The number of the block of a layer or weight; ``None`` outside the blocks."""
    return block_and_part(name)[0]


def taker(targets: Iterable[str]) -> Callable[[str], bool]:
    """A function that returns whether a layer, or the weight its expert is joined in, ``matches``
    one of the targets.

    It looks names up in a set, so that it is fast for mixtures with many thousands of layers.
    """
    wanted = frozenset(targets)
    return lambda name: (
        not (wanted.isdisjoint(_ends(name)) and wanted.isdisjoint(_ends(joined_name(name))))
    )


@lru_cache(maxsize=2**17)
def _ends(name: str) -> tuple[str, ...]:
    """The name, and its suffixes at each dot."""
    parts = name.split(".")
    return tuple(".".join(parts[i:]) for i in range(len(parts)))


def all_ends(names: Iterable[str]) -> set[str]:
    """Every target that matches one of these layers by its own name."""
    return {end for name in names for end in _ends(name)}


@lru_cache(maxsize=2**17)
def joined_name(name: str) -> str:
    """The weight that transformers joins an expert's matrix in; other names are unchanged."""
    found = _EXPERT.fullmatch(name)
    part = found and _PARTS.get(found[2])
    if not found or not part:
        return name
    before = re.sub(
        r"(^|\.)block_sparse_moe\.$", r"\1mlp.", found[1]
    )  # the name in Mixtral's files
    return f"{before}experts.{part}"


@lru_cache(maxsize=2**17)
def is_joined(name: str) -> bool:
    """Whether this is the name of a joined weight, or a suffix of one."""
    parent, _, last = name.rpartition(".")
    return parent.rpartition(".")[2] == "experts" and last in (GATE_UP, DOWN)
