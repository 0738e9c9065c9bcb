"""What differs between a run and the present graph, node by node and field by field.

It is shown before a run is resumed: resuming continues with the plan of the run, not with the graph on the canvas.
Files are compared by the fingerprints of the steps that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import Registry, variant_fields
from studio.graph.schema import FieldSpec, Settings, fields_of
from studio.graph.wires import title_of
from studio.runs.fingerprint import resolved_settings
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step, current_fingerprints
from studio.shown_text import MOST_IN_QUOTES, line

MOST_LINES = 8


@dataclass(frozen=True)
class Comparison:
    """``lines`` name the differences, each with node, field, earlier and present value. ``can_continue`` is ``False``
    if a step that has not finished reads files that are others now: the run cannot be continued."""

    lines: tuple[str, ...] = ()
    can_continue: bool = True

    def short_lines(self) -> list[str]:
        """The first lines, and the number of the others."""
        rest = len(self.lines) - MOST_LINES
        more = [f"and {rest} more"] if rest > 0 else []
        return [*self.lines[:MOST_LINES], *more]


def compare(folder: RunFolder, graph: Graph, registry: Registry, project_dir: Path) -> Comparison:
    """Compare a run with a graph. Raises ``StudioError`` if the plan of the run cannot be read."""
    plan = folder.plan()
    now = current_fingerprints(graph, registry, project_dir)
    lines: list[str] = []
    can_continue = True
    for step in plan.steps:
        if not graph.has(step.node):
            lines.append(f"{_title(step)}: removed from the project")
            continue
        found = list(_differences(step, plan, graph, registry))
        if not found and _files_differ(step, plan, now):
            found = ["its files, or the version of this node, have changed"]
            can_continue &= (folder.steps / f"{step.fingerprint}.json").is_file()
        title = title_of(graph.node(step.node), registry)
        lines += [f"{title}: {one}" for one in found]
    known = {step.node for step in plan.steps}
    new = (node for node in graph.nodes if node.id not in known)
    lines += [f"{title_of(node, registry)}: added to the project" for node in new]
    return Comparison(tuple(lines), can_continue)


def _title(step: Step) -> str:
    return line(step.title, MOST_IN_QUOTES)


def _files_differ(step: Step, plan: Plan, now: Mapping[str, str | None]) -> bool:
    """Whether a step differs although its settings and the steps before it do not."""
    before = {source for source, _ in step.inputs.values()}
    same_before = all(now.get(n) == plan.step(n).fingerprint for n in before)
    return same_before and now.get(step.node) != step.fingerprint


def _differences(step: Step, plan: Plan, graph: Graph, registry: Registry) -> Iterator[str]:
    node = graph.node(step.node)
    node_type = registry.node_type(node.type)
    if node.type != step.type or node_type is None:
        yield f"its type was {step.type} and is {node.type}"
        return
    settings = {**step.settings, **node.settings}  # as typed, while they are not valid
    with suppress(ValueError):
        settings = resolved_settings(node_type, node.settings, registry)
    yield from _fields(node_type.settings, step.settings, settings, registry)
    wires = {w.target_port: (w.source, w.source_port) for w in graph.wires if w.target == node.id}
    ports = {port.name: port.title for port in node_type.inputs}
    for port in dict.fromkeys((*step.inputs, *wires)):
        if step.inputs.get(port) != wires.get(port):
            old = _source(step.inputs.get(port), plan)
            new = wires.get(port)
            title = title_of(graph.node(new[0]), registry) if new and graph.has(new[0]) else ""
            yield f"input {ports.get(port, port)} {old} → {title or 'not connected'}"


def _source(found: tuple[str, str] | None, plan: Plan) -> str:
    return _title(plan.step(found[0])) if found is not None else "not connected"


def _fields(
    model: type[Settings], old: Mapping[str, Any], new: Mapping[str, Any], registry: Registry
) -> Iterator[str]:
    specs = {spec.name: spec for spec in fields_of(model)}
    variants = {f"{name}_settings": (kind, name) for name, kind in variant_fields(model).items()}
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if name in variants and isinstance(before, Mapping) and isinstance(after, Mapping):
            kind, field = variants[name]
            variant = registry.variant(kind, str(new.get(field)))
            if variant is not None and old.get(field) == new.get(field):
                yield from _fields(variant.settings, before, after, registry)
            continue
        spec = specs.get(name)
        label = spec.meta.label if spec is not None and spec.meta.label else name
        yield f"{label} {_text(spec, before)} → {_text(spec, after)}"


def _text(spec: FieldSpec | None, value: Any) -> str:
    """A value as it is named in the window, on one line."""
    special: dict[Any, str] = dict(spec.meta.special) if spec is not None else {}
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (str, int, float)) and value in special:
        return special[value]
    if value in ("", None, [], {}):
        return "empty"
    if isinstance(value, list) and value:
        return line(", ".join(map(str, value)), MOST_IN_QUOTES)
    if spec is not None and spec.choices:
        return spec.choice_label(value)
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return line(shown, MOST_IN_QUOTES)


def project_file(plan: Plan) -> Path | None:
    """The file of the project that was run, if its folder has exactly one project of that name."""
    found: list[Path] = []
    for path in sorted(plan.project_dir.glob("*.studio")):
        with suppress(StudioError):
            if load_project(path).name == plan.name:
                found.append(path)
    return found[0] if len(found) == 1 else None
