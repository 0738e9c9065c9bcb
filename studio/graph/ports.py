"""Typed ports: what may flow along a wire.

Wires carry descriptions and paths (JSON), never tensors. Colour and shape of a type are the
canvas's business; this module only names the types.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PortType:
    """A kind of value that flows along a wire."""

    id: str
    title: str


DATASET = PortType("dataset", "Dataset")
MODEL = PortType("model", "Model")
ADAPTED_MODEL = PortType("adapted_model", "Model with LoRA")
ADAPTER = PortType("adapter", "Adapter")
REPORT = PortType("report", "Report")

PORT_TYPES: dict[str, PortType] = {
    t.id: t for t in (DATASET, MODEL, ADAPTED_MODEL, ADAPTER, REPORT)
}


@dataclass(frozen=True)
class Port:
    """One input or output of a node type.

    An output has exactly one type. An input may accept several (``types``, any of them) and takes
    one wire; ``required`` inputs without a wire are a Problem.
    """

    name: str
    types: tuple[PortType, ...]
    title: str
    help: str = ""
    required: bool = True

    @property
    def type(self) -> PortType:
        """The port's main type: the only one of an output, the first one of an input."""
        return self.types[0]

    def accepts(self, other: PortType) -> bool:
        """Whether a wire that carries ``other`` may end here."""
        return other in self.types


def output(name: str, type_: PortType, title: str, help: str = "") -> Port:
    """An output port."""
    return Port(name, (type_,), title, help)


def input_(
    name: str,
    types: PortType | tuple[PortType, ...],
    title: str,
    help: str = "",
    required: bool = True,
) -> Port:
    """An input port that accepts any of ``types``."""
    return Port(name, types if isinstance(types, tuple) else (types,), title, help, required)
