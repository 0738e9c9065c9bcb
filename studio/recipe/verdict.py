"""Whether a training fits with the recipe's values, by the estimate that the node shows.

If it does not, a sentence says so and names the nearest thing that would fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from studio.estimate import fit
from studio.estimate.graph import MARGIN, Estimate, estimate_graph
from studio.estimate.job import Facts
from studio.estimate.machine import this_machine
from studio.estimate.words import PHASES, gib, without_merge
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.recipe.facts import apply_recipe
from studio.recipe.recipe import Proposal

_SMALLEST = 10_000_000
"""Parameters of the smallest models worth naming."""


def verdict(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    train: str,
    proposals: Iterable[Proposal],
    facts: Facts | None = None,
) -> str:
    """A sentence if the training does not fit, as it is or with the proposals; else empty."""
    facts = facts or Facts(this_machine(graph))
    proposed = apply_recipe(graph, proposals)
    now = estimate_graph(graph, registry, project_dir, facts, train)
    then = estimate_graph(proposed, registry, project_dir, facts, train)
    assert now is not None
    assert then is not None
    if then.fits is False:
        nearest = _nearest(proposed, registry, project_dir, facts, then)
        return f"The training does not fit, even with these values: {_need(then)}. {nearest}"
    if now.fits is False:
        return (
            f"The training does not fit with the present settings: {_need(now)}. With these values "
            f"it needs about {gib(then.peak or 0)} and fits."
        )
    return ""


def _need(found: Estimate) -> str:
    return (
        f"it needs about {gib(found.peak or 0)} {PHASES[found.phase]}, and {gib(found.available)} "
        "are free"
    )


def _nearest(
    graph: Graph, registry: Registry, project_dir: Path, facts: Facts, found: Estimate
) -> str:
    """What would fit: other settings besides the recipe's, or a smaller model."""
    if sentence := without_merge(found):
        return sentence
    changes, after = fit.propose(graph, registry, project_dir, facts, found.node)
    if after is not None and after.fits:
        words = ", ".join(f"{c.node}.{c.field} = {c.value}" for c in changes)
        return f"It would fit with {words}."
    least = after or found
    room = MARGIN * found.available - facts.machine.framework
    needed = (least.peak or 0) - facts.machine.framework
    size = (found.total or 0) * room / max(1, needed)
    if size < _SMALLEST:
        return "No model fits into the free memory."
    return f"A model of about {size / 1e9:.2g} billion parameters would fit."
