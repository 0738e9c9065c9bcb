"""``estimate``: the memory, parameters, steps and time of a project's trainings.

The formulas of ``studio.estimate`` need no training. ``--dry-run`` and ``--probe`` use a helper
process: the first traces every tensor of a step without computing it, the second trains two real
steps. With ``--json`` standard output contains one object per Train node.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from studio.cli.overrides import with_changes, write_proposed
from studio.errors import StudioError
from studio.estimate.ask import ask
from studio.estimate.earlier import facts_here
from studio.estimate.fit import Proposal, apply, propose
from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts, job_of
from studio.estimate.machine import this_machine
from studio.estimate.words import PARTS, PHASES, basis, duration, gib, time_parts, without_merge
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import Registry, load_registry
from studio.shown_text import MOST_IN_QUOTES, line
from studio.system import torch_report


def estimate(options: argparse.Namespace) -> int:
    """Print the estimate of each Train node; 1 if one does not fit into the free memory."""
    from studio.cli.commands import runs_dir

    registry = load_registry()
    for sentence in registry.failures:
        print(sentence, file=sys.stderr)
    graph = with_changes(load_project(options.file), options.changes, registry)
    project_dir = options.file.resolve().parent
    trains = [n.id for n in graph.nodes if n.type == "train"]
    if not trains:
        raise StudioError(
            "The project has no Train node.",
            hint="Add one and connect its dataset and model.",
            code="no_train",
        )
    torch_report.ask()
    facts = facts_here(runs_dir(options), registry, False, this_machine(graph))
    found = [_estimated(graph, registry, project_dir, facts, n, options) for n in trains]
    fits = [_one(e, graph, registry, project_dir, facts, options) for e in found if e is not None]
    return 0 if all(fits) else 1


def _estimated(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    facts: Facts,
    node: str,
    options: argparse.Namespace,
) -> Estimate | None:
    """The estimate by formula, or by the helper process."""
    if not (options.probe or options.dry_run):
        return estimate_graph(graph, registry, project_dir, facts, node)
    job = job_of(graph, registry, project_dir, graph.node(node))
    asking = ask("probe" if options.probe else "dry run", job, facts)
    try:
        while True:
            print(f"{next(asking)} ...", file=sys.stderr)
    except StopIteration as end:
        found: Estimate = end.value
        return found
    finally:
        asking.close()


def _one(
    found: Estimate,
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    facts: Facts,
    options: argparse.Namespace,
) -> bool:
    proposals: tuple[Proposal, ...] = ()
    after: Estimate | None = None
    if options.fit or options.apply:
        proposals, after = propose(graph, registry, project_dir, facts, found.node)
    if options.json:
        data = {**found.to_json(), "proposals": [vars(p) for p in proposals]}
        print(json.dumps(data), flush=True)
    else:
        _tell(found)
        if options.fit or options.apply:
            _tell_proposals(proposals, after)
    if options.apply and proposals:
        write_proposed(options, lambda stored: apply(stored, proposals))
        print(f"{options.file}: changed.", file=sys.stderr)
        return after is None or after.fits is not False
    return found.fits is not False


def _tell(found: Estimate) -> None:
    print(f"{line(found.node, MOST_IN_QUOTES)}: {_parameters(found)}")
    if found.parts is not None:
        for name, words in PARTS:
            if size := getattr(found.parts, name):
                print(f"  {words:<14} {gib(size):>10}")
    if found.peak is not None:
        verdict = "fits" if found.fits else "does not fit"
        peak = f"{PHASES[found.phase]}, {basis(found)}"
        print(f"  {'Peak':<14} {gib(found.peak):>10}   {peak}")
        print(f"  {'Free':<14} {gib(found.available):>10}   {found.device}: the training {verdict}")
        if sentence := without_merge(found):
            print(f"  {sentence}")
    print(f"  {_length(found)}")
    print(f"  Time: {duration(found)}.")
    if parts := time_parts(found):
        print(f"  {parts}.")
    for note in filter(None, (found.dropped, *found.notes)):
        print(f"  {line(note)}")


def _parameters(found: Estimate) -> str:
    if found.trainable is None or found.total is None:
        return "number of trainable parameters unknown"
    share = 100 * found.trainable / max(1, found.total)
    return f"{found.trainable:,} of {found.total:,} parameters are trainable ({share:.2f} %)"


def _length(found: Estimate) -> str:
    steps = "unknown" if found.steps is None else f"{found.steps:,}"
    tokens = "unknown" if found.tokens is None else f"about {found.tokens:,}"
    return f"Steps: {steps}. Tokens: {tokens}."


def _tell_proposals(proposals: tuple[Proposal, ...], after: Estimate | None) -> None:
    if not proposals:
        print("  No changes are needed.")
        return
    print("  To make the training fit:")
    for p in proposals:
        print(line(f"    {p.node}.{p.field} = {p.value}   {p.reason}"))
    if after is not None and after.peak is not None:
        still = "" if after.fits else " This is still too much: use a smaller model."
        print(f"  Peak with these changes: {gib(after.peak)}.{still}")
