"""Checks all rows of the Dataset nodes of a graph before a run (``studio.data.full_check``), and tries the
chat templates of its Train nodes on the first ones (``studio.preview.template_check``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from studio.data.full_check import check_rows
from studio.data.kept_checks import keep, kept, key_of
from studio.graph.graph import Graph
from studio.graph.problems import settings_of
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.train import TrainSettings
from studio.preview import template_check


def unchecked(graph: Graph, registry: Registry, project_dir: Path) -> Iterator[DatasetSettings]:
    """The settings of the Dataset nodes whose rows have not been checked since they changed."""
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        settings = settings_of(node, node_type) if node_type is not None else None
        if isinstance(settings, DatasetSettings):
            key = key_of(settings, project_dir)
            if key is not None and kept(key) is None:
                yield settings


def is_unchecked(graph: Graph, registry: Registry, project_dir: Path) -> bool:
    """Whether there are rows or chat templates that have not been checked since they changed."""
    return next(unchecked(graph, registry, project_dir), None) is not None or any(
        template_check.is_unchecked(settings, upstream, project_dir)
        for settings, upstream in _trains(graph, registry)
    )


def _trains(
    graph: Graph, registry: Registry
) -> Iterator[tuple[TrainSettings, dict[str, tuple[str, Settings | None]]]]:
    """The settings of each Train node, and type and settings of the nodes before it."""
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        settings = settings_of(node, node_type) if node_type is not None else None
        if isinstance(settings, TrainSettings):
            before = (graph.node(n) for n in graph.upstream(node.id) - {node.id} if graph.has(n))
            types = ((n, registry.node_type(n.type)) for n in before)
            yield settings, {n.id: (n.type, settings_of(n, t) if t else None) for n, t in types}


def check_all_rows(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    budget_s: float,
    stopped: Callable[[], bool] = lambda: False,
    *,
    keep_parts: bool = True,
) -> bool:
    """Check the rows of all Dataset nodes for at most ``budget_s``, then the templates; returns whether a
    result was kept.

    ``stopped`` ends it without a result. Without ``keep_parts`` a check that did not come to the end
    is not kept.
    """
    deadline = time.monotonic() + budget_s
    formats, any_kept = registry.variants["format"], False

    def late() -> bool:
        return stopped() or time.monotonic() >= deadline

    for settings in unchecked(graph, registry, project_dir):
        key = key_of(settings, project_dir)  # before reading: newer rows are read again
        checked = check_rows(settings, project_dir, formats, late)
        if stopped():
            return any_kept
        if key is not None and (keep_parts or checked.complete):
            keep(key, checked)
            any_kept = True
    for train, upstream in _trains(graph, registry):
        if not stopped():
            any_kept |= template_check.try_template(train, upstream, project_dir, formats)
    return any_kept
