"""What a node type and a variant are.

A node type says what flows in and out, which settings it has and how to run it. A variant is a
choice inside a node with settings of its own. Both are frozen descriptions; the heavy work is
imported inside ``run``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from studio.errors import Problem
from studio.graph.ports import Port
from studio.graph.schema import NoSettings, Settings

if TYPE_CHECKING:
    # Import cycle: ``run`` is given a StepContext, which holds the registry of all node types.
    from studio.graph.context import StepContext

Values = Mapping[str, Any]
S = TypeVar("S", bound=Settings)
Purpose = Literal["", "prepare", "train", "result"]
Run = Callable[["StepContext", Values, S], Values]


@dataclass(frozen=True)
class Fact:
    """Something worth knowing about what a node's settings name, as label and value; ``short`` are
    the few words for it that are drawn on the node, if any."""

    label: str
    value: str
    short: str = ""


@dataclass(frozen=True)
class Option:
    """One choice of a setting, for the form: what it is for, a fact about it in this project, such as the size of the
    file, and what is ``missing`` on this computer, with the id of the optional ``package`` that brings it. Options of
    one ``group`` are shown together."""

    value: str
    group: str = ""
    words: str = ""
    fact: str = ""
    missing: str = ""
    package: str = ""


@dataclass(frozen=True)
class CheckContext:
    """What a node's quick check may look at: no torch, no network, a few milliseconds.

    ``inputs`` maps a connected input port to the (node type id, parsed settings or ``None``) of
    the node at the other end, so that e.g. an exporter can see whether an adapter or a model is
    wired to it; ``upstream`` gives the same for every node before this one, by node id, and
    ``project`` for all nodes of the project. ``input_types`` names the type that each connected
    input carries, and ``used_outputs`` the output ports that somebody takes. ``all_rows``: what an
    earlier check of all rows found counts.
    """

    node: str
    title: str
    project_dir: Path
    inputs: Mapping[str, tuple[str, Settings | None]] = field(default_factory=dict)
    upstream: Mapping[str, tuple[str, Settings | None]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)
    input_types: Mapping[str, str] = field(default_factory=dict)
    used_outputs: frozenset[str] = frozenset()
    all_rows: bool = True
    project: Mapping[str, tuple[str, Settings | None]] = field(default_factory=dict)

    def problem(self, sentence: str, field: str | None = None, **more: Any) -> Problem:
        """A Problem on this node; the sentence is prefixed with the node's title."""
        return Problem(f"{self.title}: {sentence}", self.node, field, **more)


def _no_files(settings: Settings, project_dir: Path) -> Iterable[Path]:
    del settings, project_dir
    return ()


def _no_check(settings: Settings, context: CheckContext) -> Iterable[Problem]:
    del settings, context
    return ()


def _no_facts(settings: Settings, project_dir: Path) -> Iterable[Fact]:
    del settings, project_dir
    return ()


def _always_current(settings: Settings, outputs: Values) -> bool:
    del settings, outputs
    return True


def _no_choices(settings: Settings, project_dir: Path, field: str) -> Sequence[str]:
    del settings, project_dir, field
    return ()


@dataclass(frozen=True)
class NodeType(Generic[S]):
    """A kind of node.

    ``run(context, inputs, settings) -> outputs`` does the work; inputs and outputs are JSON
    descriptions by port name. ``files(settings, project_dir)`` lists every file whose content
    changes the result (for the fingerprint). ``check(settings, context)`` yields Problems that the
    settings alone cannot show. ``version`` grows when the same settings give another result.
    ``summary(settings)`` is the short line drawn on the node; there, a setting that chooses a
    variant holds the variant's title. ``facts(settings, project_dir)`` says what is known about
    what the settings name, in a few milliseconds. ``is_current(settings, outputs)`` is whether the result
    of an earlier run would be the same on this computer. ``choices(settings, project_dir, field)`` lists what
    a text with the widget ``names`` can be; other texts are possible. ``purpose``: a node that only prepares
    something for other nodes gets a warning while none uses it; ``train`` and ``result`` are what makes use of
    it. Without a purpose nothing is assumed. ``stages`` are the stages of a run that the node goes through,
    in order (``load``, ``train``, ``save``); without any, its title is one.
    """

    id: str
    title: str
    version: int
    category: str
    help: str
    settings: type[S]
    run: Run[S]
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    icon: str = "box"
    files: Callable[[S, Path], Iterable[Path]] = _no_files
    check: Callable[[S, CheckContext], Iterable[Problem]] = _no_check
    summary: Callable[[S], str] = lambda settings: ""
    facts: Callable[[S, Path], Iterable[Fact]] = _no_facts
    choices: Callable[[S, Path, str], Sequence[str]] = _no_choices
    is_current: Callable[[S, Values], bool] = _always_current
    purpose: Purpose = ""
    stages: tuple[str, ...] = ()

    def input(self, name: str) -> Port | None:
        """The input port with this name, or ``None``."""
        return next((p for p in self.inputs if p.name == name), None)

    def output(self, name: str) -> Port | None:
        """The output port with this name, or ``None``."""
        return next((p for p in self.outputs if p.name == name), None)


@dataclass(frozen=True)
class Variant:
    """A choice inside a node: a LoRA method, a dataset format, an exporter, an objective.

    ``payload`` is what the kind's own room defines (see the package of that kind for its type).
    """

    kind: str
    id: str
    title: str
    help: str
    settings: type[Settings] = NoSettings
    payload: Any = None
    order: int = 100

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """The node's own settings that this choice makes no use of, where its payload says so."""
        return tuple(getattr(self.payload, "unused_fields", ()))
