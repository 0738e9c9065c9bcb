"""The commands that list: runs, and node types with their settings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from studio.errors import StudioError
from studio.graph.node_type import NodeType, Variant
from studio.graph.ports import Port
from studio.graph.registry import Registry, load_registry
from studio.graph.schema import Settings, to_json_schema
from studio.runs.folder import RunFolder, list_runs
from studio.runs.status import checked_status, look_of
from studio.runs.summary import summarize
from studio.shown_text import MOST_IN_QUOTES, line

_MOST_LETTERS = 160


def runs(options: argparse.Namespace) -> int:
    """List the runs, newest first."""
    from studio.cli.commands import runs_dir

    place = runs_dir(options)
    found = [_run_row(r) for r in list_runs(place)]
    if options.json:
        _print_lines(found)
        return 0
    if not found:
        print(f"No runs in {place}.")
    for row in found:
        more = line(row["ended"].rstrip(".") or row["resumed"], _MOST_LETTERS)
        name = line(row["name"], MOST_IN_QUOTES) + (f" · {more}" if more else "")
        word = look_of(checked_status(row["status"], row["verdict"])).word
        print(f"{row['id']:<40} {word:<12} {name}")
    return 0


def _run_row(folder: RunFolder) -> dict[str, Any]:
    """One run; a damaged one is listed with the facts that can be read."""
    try:
        name, steps = folder.plan().name, len(folder.plan().steps)
    except StudioError:
        name, steps = "(damaged)", 0
    found = summarize(folder)
    return {
        "id": folder.id,
        "status": found.status,
        "ended": found.ended,
        "resumed": found.resumed,
        "verdict": found.verdict,
        "name": name,
        "steps": steps,
        "path": str(folder.path.resolve()),
    }


def nodes(options: argparse.Namespace) -> int:
    """List node types and variants with every setting."""
    registry = load_registry()
    rows = [*_node_rows(registry), *_variant_rows(registry)]
    if options.json:
        _print_lines(rows)
        return 0
    for row in rows:
        kind = "" if row["kind"] == "node" else f" ({row['kind']})"
        print(f"{row['id']}{kind}: {row['title']}. {row['help']}")
        for field in row["settings"]:
            print(_setting_line(field))
    return 0


def _node_rows(registry: Registry) -> list[dict[str, Any]]:
    return [_node_row(n) for n in registry.nodes.values()]


def _node_row(node: NodeType[Settings]) -> dict[str, Any]:
    return {
        "kind": "node",
        "id": node.id,
        "title": node.title,
        "version": node.version,
        "category": node.category,
        "help": node.help,
        "inputs": [_port_row(p) for p in node.inputs],
        "outputs": [_port_row(p) for p in node.outputs],
        "settings": to_json_schema(node.settings),
    }


def _port_row(port: Port) -> dict[str, Any]:
    types = [t.id for t in port.types]
    return {"name": port.name, "types": types, "title": port.title, "required": port.required}


def _variant_rows(registry: Registry) -> list[dict[str, Any]]:
    return [_variant_row(v) for kind in registry.variants for v in registry.choices(kind)]


def _variant_row(variant: Variant) -> dict[str, Any]:
    return {
        "kind": variant.kind,
        "id": variant.id,
        "title": variant.title,
        "help": variant.help,
        "settings": to_json_schema(variant.settings),
    }


def _setting_line(field: dict[str, Any]) -> str:
    limits = _limits(field)
    return f"  {field['name']} = {json.dumps(field['default'])}{limits}  {field['help']}"


def _limits(field: dict[str, Any]) -> str:
    parts: list[str] = []
    if field.get("choices"):
        some = "list of" if field["kind"] == "list" else "one of"
        parts.append(f"{some} {', '.join(map(str, field['choices']))}")
    if "minimum" in field:
        parts.append(
            f"{'more than' if field.get('exclusive_minimum') else 'at least'} {field['minimum']}"
        )
    if "maximum" in field:
        parts.append(
            f"{'less than' if field.get('exclusive_maximum') else 'at most'} {field['maximum']}"
        )
    if field.get("unit"):
        parts.append(field["unit"])
    return f" ({', '.join(parts)})" if parts else ""


def _print_lines(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row))
