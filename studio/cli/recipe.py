"""``recipe``: recommend values for a training, each with a reason; ``--apply`` saves them.

The number and lengths of the rows come from the data report, which is cached or created by the data
host.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from studio.cli.data_host import DataHost, opened, tell_failure
from studio.cli.overrides import with_changes, write_proposed
from studio.errors import StudioError
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import Registry, load_registry
from studio.preview.report import DataReport, report_from_json
from studio.preview.report_cache import kept
from studio.recipe.facts import apply_recipe, present_value, recipe_facts
from studio.recipe.recipe import Proposal, propose
from studio.recipe.verdict import verdict
from studio.runs.token_request import token_request
from studio.shown_text import MOST_IN_QUOTES, line
from studio.system import torch_report


def recipe(options: argparse.Namespace) -> int:
    """Print the recipe, or apply it; 2 if the project is invalid, 1 if the data cannot be read."""
    registry = load_registry()
    graph = with_changes(load_project(options.file), options.changes, registry)
    project_dir = options.file.resolve().parent
    torch_report.ask()
    recipe_facts(graph, registry, project_dir, options.node)  # validates the node before any work
    try:
        report = _report(graph, registry, options)
    except StudioError as error:
        return tell_failure(error)
    facts = recipe_facts(graph, registry, project_dir, options.node, report)
    proposals = propose(facts)
    sentence = verdict(graph, registry, project_dir, facts.train, proposals)
    if options.apply:
        graph = load_project(options.file)  # compared with the file, not with --set
        write_proposed(options, lambda stored: apply_recipe(stored, proposals))
    if sentence:
        print(json.dumps({"fits": False, "sentence": sentence}) if options.json else line(sentence))
    rows = [(p, present_value(graph, registry, p)) for p in proposals]
    for proposal, present in rows:
        print(json.dumps(_as_json(proposal, present)) if options.json else _line(proposal, present))
    if not options.json:
        changes = sum(p.value != present for p, present in rows)
        print(_end(changes, options))
    return 0


def _report(graph: Graph, registry: Registry, options: argparse.Namespace) -> DataReport | None:
    """The data report, or ``None`` if the data cannot be read yet."""
    request, _ = token_request(graph, registry, options.file.resolve().parent, options.node)
    if request is None:
        print(
            "The data cannot be read yet. Values that depend on it are estimated from its files, or omitted.",
            file=sys.stderr,
        )
        return None
    known = kept(request.key)
    if known is not None:
        return known
    with DataHost() as host:
        opened(host, request, options)
        return report_from_json(host.ask("report")["report"])


def _as_json(proposal: Proposal, present: Any) -> dict[str, Any]:
    return {
        "node": proposal.node,
        "field": proposal.field,
        "value": proposal.value,
        "present": present,
        "reason": proposal.reason,
    }


def _line(proposal: Proposal, present: Any) -> str:
    name, value = f"{_word(proposal.node)}.{proposal.field}", _word(proposal.value)
    same = proposal.value == present
    change = f"{value} (unchanged)" if same else f"{_word(present)} → {value}"
    return f"{name}: {change}\n    {proposal.reason}"


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else line(str(value), MOST_IN_QUOTES)


def _end(changes: int, options: argparse.Namespace) -> str:
    if not changes:
        return "All values already match the recommendations."
    counted = "1 setting" if changes == 1 else f"{changes} settings"
    if options.apply:
        return f"{counted} changed; saved {options.file}."
    return f"{counted} would change. Write them with --apply."
