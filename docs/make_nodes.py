"""Writes docs/nodes.md: every node type and variant with its settings, from the registry.

Why: one source. The page is made from the same settings models as the form, the check and the
command line, so it cannot disagree with them. `python docs/make_nodes.py` writes it, and a test
fails while it is out of date. It must not hold any text about a particular node.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "nodes.md"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from studio.graph.node_type import NodeType, Variant  # noqa: E402
from studio.graph.registry import Registry, load_registry  # noqa: E402
from studio.graph.schema import FieldSpec, Settings, fields_of  # noqa: E402

HEAD = """\
# Nodes and their settings

Made by `docs/make_nodes.py` from the settings models; do not edit it by hand.

A setting is changed in the inspector, in the project file, or on the command line with
`--set NODE.SETTING=VALUE`, where NODE is the node's id. A setting that is left out has its default.
The settings of a variant are written with a dot, such as `method_settings.NAME`.
"""
KIND_WORDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true or false",
    "list": "list of names",
    "object": "data",
}


def page(registry: Registry) -> str:
    """The whole page as Markdown."""
    by_category: dict[str, list[NodeType]] = {}
    for node_type in registry.nodes.values():
        by_category.setdefault(node_type.category, []).append(node_type)
    parts = [HEAD]
    for category in sorted(by_category):
        for node_type in sorted(by_category[category], key=lambda n: n.title):
            parts += node_part(node_type, registry)
    return "\n".join(parts).rstrip() + "\n"


def node_part(node_type: NodeType, registry: Registry) -> list[str]:
    """The section of one node type and of the variants it offers."""
    lines = [f"## {node_type.title}", "", node_type.help, "", *_ports(node_type), ""]
    lines += table(node_type.settings, registry)
    for spec in fields_of(node_type.settings):
        for variant in registry.choices(spec.meta.variant) if spec.meta.variant else ():
            lines += variant_part(spec, variant, registry)
    return lines


def variant_part(spec: FieldSpec, variant: Variant, registry: Registry) -> list[str]:
    """The section of one variant."""
    head = f"### {spec.meta.label}: {variant.title} (`{spec.name}={variant.id}`)"
    return [
        head,
        "",
        variant.help,
        "",
        *table(variant.settings, registry, f"{spec.name}_settings."),
    ]


def table(model: type[Settings], registry: Registry, prefix: str = "") -> list[str]:
    """One row a setting; nothing for a model without settings."""
    specs = fields_of(model)
    nested = {f"{s.name}_settings" for s in specs if s.meta.variant}
    rows = [_row(s, registry, prefix) for s in specs if s.name not in nested]
    if not rows:
        return []
    return ["| Setting | Default | Values | Meaning |", "| --- | --- | --- | --- |", *rows, ""]


def _row(spec: FieldSpec, registry: Registry, prefix: str) -> str:
    meta = spec.meta
    help_text = f"**{meta.label}.** {meta.help}{' *Advanced.*' if meta.advanced else ''}"
    cells = (f"`{prefix}{spec.name}`", _default(spec), _values(spec, registry), help_text)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _default(spec: FieldSpec) -> str:
    words = dict(spec.meta.special)
    if spec.default in ("", None, [], {}):
        return "empty"
    special = words.get(spec.default) if isinstance(spec.default, (str, int, float)) else None
    shown = f"`{_text(spec.default)}`"
    return f"{shown} ({special})" if special and not isinstance(spec.default, bool) else shown


def _values(spec: FieldSpec, registry: Registry) -> str:
    unit = f", {spec.meta.unit}" if spec.meta.unit else ""
    special = [value for value, _ in spec.meta.special if isinstance(value, str)]
    if spec.meta.variant:
        return _code([*special, *(v.id for v in registry.choices(spec.meta.variant))])
    if spec.choices:
        return _code(spec.choices)
    if special:
        return f"{_code(special)}, or a {KIND_WORDS[spec.kind]}"
    return KIND_WORDS[spec.kind] + _limits(spec) + unit


def _limits(spec: FieldSpec) -> str:
    low = None if spec.minimum is None else _text(spec.minimum)
    high = None if spec.maximum is None else _text(spec.maximum)
    parts = []
    if low is not None:
        parts.append(f"more than {low}" if spec.exclusive_minimum else f"at least {low}")
    if high is not None:
        parts.append(f"less than {high}" if spec.exclusive_maximum else f"at most {high}")
    return ", " + ", ".join(parts) if parts else ""


def _ports(node_type: NodeType) -> list[str]:
    def words(ports: Iterable[Any]) -> str:
        shown = (f"`{p.name}` ({' or '.join(t.title for t in p.types)})" for p in ports)
        return ", ".join(shown) or "none"

    return [
        f"Type `{node_type.id}`. Inputs: {words(node_type.inputs)}. "
        f"Outputs: {words(node_type.outputs)}."
    ]


def _code(values: Iterable[Any]) -> str:
    return ", ".join(f"`{v}`" for v in values)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(load_registry()), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
