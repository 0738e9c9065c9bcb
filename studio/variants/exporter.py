"""The payload of an ``exporter`` variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.values import AdapterValue, ModelValue

if TYPE_CHECKING:
    from studio.graph.context import StepContext

Exportable = ModelValue | AdapterValue


@dataclass(frozen=True)
class Readable:
    """Something in an export that a program loads: ``path`` relative to the folder of the export (empty: the
    folder itself), ``title`` tells it from the others of the same export, such as the quantization of a file.
    ``reader`` is the program with which it is compared after the export."""

    reader: Literal["transformers", "peft", "llama.cpp"]
    path: str = ""
    title: str = ""


@dataclass(frozen=True)
class Written:
    """What the export has to say about its content: rows of fact and value for the model card, values for the
    manifest, the command line that runs it, if it is not loaded by transformers or PEFT, and what can be read back
    in order to compare it with the model or adapter that was exported."""

    card: tuple[tuple[str, str], ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    readable: tuple[Readable, ...] = ()


def _no_links(value: Exportable, settings: Any) -> int:
    del value, settings
    return 0


def _no_check(context: CheckContext) -> Iterable[Problem]:
    del context
    return ()


@dataclass(frozen=True)
class Exporter:
    """``write(context, value, settings, folder)`` fills an empty folder and need not clean up; it may return
    what it has ``Written``.

    ``accepts`` names the supported kinds of value (``model``, ``adapter``). ``size(value)`` is the
    number of bytes to write, at their peak, without model card and manifest. ``artifact_kind(value)`` is the kind of
    the resulting artifact. ``size_with(value, settings)`` replaces ``size`` where it depends on the settings; it may
    raise ``StudioError`` for what cannot be written. ``check(context)`` yields what the graph already shows to be
    impossible. ``linked(value, settings)`` is how much of the size takes no space inside a run, because weights are
    linked.
    """

    accepts: tuple[str, ...]
    write: Callable[[StepContext, Exportable, Any, Path], Written | None]
    size: Callable[[Exportable], int]
    artifact_kind: Callable[[Exportable], str]
    size_with: Callable[[Exportable, Any], int] | None = None
    check: Callable[[CheckContext], Iterable[Problem]] = _no_check
    linked: Callable[[Exportable, Any], int] = _no_links
