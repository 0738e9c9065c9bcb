"""The payload of an ``exporter`` variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext, Option
from studio.graph.schema import Settings
from studio.values import AdapterValue, ModelValue

if TYPE_CHECKING:
    from studio.export_folder.parity import Check
    from studio.graph.context import StepContext

Exportable = ModelValue | AdapterValue


@dataclass(frozen=True)
class Readable:
    """Something in an export that a program loads: ``path`` relative to the folder of the export (empty: the
    folder itself), ``title`` tells it from the others of the same export, such as the quantization of a file.
    ``reader`` is the program with which it is compared after the export. ``base`` is the path of the file in the
    export to which an adapter is applied, if that is written, too; ``needs`` is a
    package of ``studio.export_folder.optional`` without which it cannot be compared."""

    reader: Literal["transformers", "peft", "llama.cpp", "mlx"]
    path: str = ""
    title: str = ""
    base: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Rule:
    """What the rules of a program, which is not run, make of an export: whether it loads it with the same effect,
    ``None`` if that depends on more than the export; why not, without a full stop, and what to do."""

    program: str
    loads: bool | None
    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Written:
    """What the export has to say about its content: rows of fact and value for the model card, values for the
    manifest, the command line that runs it, if it is not loaded by transformers or PEFT, and what can be read back
    in order to compare it with the model or adapter that was exported. ``rules`` say what other programs make of it.
    ``place`` is what others load it by, if it is not a folder: the ID of a repository."""

    card: tuple[tuple[str, str], ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    readable: tuple[Readable, ...] = ()
    rules: tuple[Rule, ...] = ()
    place: str = ""


def _no_links(value: Exportable, settings: Settings) -> int:
    del value, settings
    return 0


def _no_check(context: CheckContext) -> Iterable[Problem]:
    del context
    return ()


def _no_options(context: CheckContext, name: str) -> Sequence[Option]:
    del context, name
    return ()


def _usual_place(settings: Settings, project: str, chosen: Path | None) -> Path | None:
    del settings, project, chosen
    return None


@dataclass(frozen=True)
class Exporter:
    """``write(context, value, settings, folder)`` fills an empty folder and need not clean up; it may return
    what it has ``Written``.

    ``accepts`` names the supported kinds of value (``model``, ``adapter``). ``size(value)`` is the number of bytes to
    write, at their peak, without model card and manifest. ``artifact_kind(value)`` is the kind of the resulting
    artifact. ``size_with(value, settings)`` replaces ``size`` where it depends on the settings; it may raise
    ``StudioError`` for what cannot be written. ``check(context)`` yields what the graph already shows to be
    impossible. ``options(context, name)`` describes the choices of a setting of the format, in the order in which they
    are shown. ``place(settings, project, chosen)`` is where the export is written, given the name of the project and
    the folder that the user has chosen, if any; ``None``: in the latter, or in the run. It may raise ``StudioError``.
    ``linked(value, settings)`` is how much of the size takes no space inside a run, because weights are linked.
    ``kind_with(value, settings)`` replaces ``artifact_kind`` where it depends on the settings. ``publish(context,
    value, settings, folder, checks)`` takes the finished and checked folder to its place outside this computer, and
    returns details of the artifact, such as its ``url``; the folder stays if it raises, and the run goes on from there
    when it is resumed.
    """

    accepts: tuple[str, ...]
    write: Callable[[StepContext, Exportable, Any, Path], Written | None]
    size: Callable[[Exportable], int]
    artifact_kind: Callable[[Exportable], str]
    size_with: Callable[[Exportable, Any], int] | None = None
    check: Callable[[CheckContext], Iterable[Problem]] = _no_check
    options: Callable[[CheckContext, str], Sequence[Option]] = _no_options
    place: Callable[[Any, str, Path | None], Path | None] = _usual_place
    linked: Callable[[Exportable, Any], int] = _no_links
    kind_with: Callable[[Exportable, Any], str] | None = None
    publish: (
        Callable[[StepContext, Exportable, Any, Path, Sequence[Check]], dict[str, Any]] | None
    ) = None

    def kind(self, value: Exportable, settings: Settings) -> str:
        """The kind of the artifact that is made with these settings of the exporter."""
        return self.kind_with(value, settings) if self.kind_with else self.artifact_kind(value)
