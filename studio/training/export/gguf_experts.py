"""The experts of a mixture as GGUF stores them: all of a layer in one tensor, (experts, out, in), for each part.

Checkpoints store each expert alone, or all of a layer together with gate and up in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from studio.training.model.weights_file import Entry

_ONE = re.compile(
    r".*\blayers\.(\d+)\..*\bexperts\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight"
)
_ALL = re.compile(
    r".*\blayers\.(\d+)\..*(experts\.gate_up_proj|experts\.down_proj|input_linear|output_linear)(?:\.weight)?"
)
_PARTS = {
    "w1": "gate",
    "w2": "down",
    "w3": "up",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "experts.down_proj": "down",
    "output_linear": "down",
}

Read = Callable[[str], torch.Tensor]


@dataclass
class Experts:
    """One part (``gate``, ``up`` or ``down``) of all experts of a layer. ``shape`` is that of the tensor in GGUF,
    ``sources`` are the stored tensors; ``half`` is 0 or 1 where one of them contains gate and up."""

    layer: int
    part: str
    shape: tuple[int, ...] = ()
    sources: dict[int, str] = field(default_factory=dict)
    half: int | None = None

    @property
    def name(self) -> str:
        """The name in GGUF."""
        return f"blk.{self.layer}.ffn_{self.part}_exps.weight"

    def read(self, tensor: Read) -> torch.Tensor:
        """The tensor, from ``tensor(name)`` of each stored one."""
        parts = [tensor(self.sources[number]) for number in sorted(self.sources)]
        whole = torch.stack(parts) if parts[0].dim() == 2 else parts[0]
        start = (self.half or 0) * self.shape[1]
        return whole[:, start : start + self.shape[1]]


def experts_in(entries: Iterable[Entry]) -> tuple[dict[str, Experts], set[str]]:
    """The experts among the stored tensors, by their names in GGUF, and the names of those tensors."""
    found: dict[str, Experts] = {}
    used: set[str] = set()

    def of(layer: str, part: str) -> Experts:
        experts = Experts(int(layer), part)
        return found.setdefault(experts.name, experts)

    for entry in entries:
        one, together = _ONE.fullmatch(entry.name), _ALL.fullmatch(entry.name)
        if one is not None:
            experts = of(one[1], _PARTS[one[3]])
            experts.sources[int(one[2])] = entry.name
            experts.shape = (len(experts.sources), *entry.shape)
        elif together is not None and together[2] in _PARTS:
            experts = of(together[1], _PARTS[together[2]])
            experts.sources, experts.shape = {0: entry.name}, tuple(entry.shape)
        elif together is not None:
            count, rows, columns = entry.shape
            for half, part in enumerate(("gate", "up")):
                experts = of(together[1], part)
                experts.sources, experts.half = {0: entry.name}, half
                experts.shape = (count, rows // 2, columns)
        else:
            continue
        used.add(entry.name)
    return found, used
