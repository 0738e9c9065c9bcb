"""The results of the check of all rows (``studio.data.full_check``), kept for this session.

The window asks for them whenever it draws a node, so this file imports none of what reads rows before there is
a result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext, Fact
from studio.node_settings.dataset import DatasetSettings

_RESULTS_KEPT = 64

results: dict[Hashable, Checked] = {}


@dataclass(frozen=True)
class Checked:
    """What the check found, as Problems without a node. ``rows`` were read of about ``total``; all
    of them if ``complete``."""

    problems: tuple[Problem, ...] = ()
    rows: int = 0
    total: int = 0
    complete: bool = True

    @property
    def reached(self) -> str:
        """How far the check came, if not to the end."""
        if self.complete:
            return ""
        about = f" of about {self.total:,}" if self.total > self.rows else ""
        return f"the first {self.rows:,}{about} rows were checked"


def key_of(settings: DatasetSettings, project_dir: Path) -> Hashable:
    """Identifies the files as they are now, and the settings; ``None`` if there are no files."""
    from studio.data.check import stamp_of
    from studio.data.reading.folder import is_hub
    from studio.data.sources import sources_of

    if is_hub(settings.source) and settings.hub_look_for_updates:
        return None  # a run may read newer files
    try:
        sources = sources_of(settings, project_dir.resolve())
        asked = settings.model_dump_json()
    except (StudioError, OSError, ValueError):
        return None
    stamps = tuple(stamp_of(p) for p in (*sources.train, *sources.validation))
    if not stamps or None in stamps:
        return None
    return asked, stamps, len(sources.train)


def keep(key: Hashable, checked: Checked) -> None:
    """Keep a result for this session."""
    if len(results) >= _RESULTS_KEPT:
        results.clear()
    results[key] = checked


def kept(key: Hashable) -> Checked | None:
    """The result for these files and settings, if there is one."""
    return results.get(key)


def kept_problems(settings: DatasetSettings, context: CheckContext) -> Iterator[Problem]:
    """The Problems of a Dataset node that the check of all rows has found for these files."""
    checked = kept(key_of(settings, context.project_dir)) if results else None
    if checked is None:
        return
    for p in checked.problems:
        yield context.problem(
            p.sentence,
            p.field,
            hint=p.hint,
            code=p.code,
            severity=p.severity,
            file=p.file,
            line=p.line,
        )
    if checked.reached:
        yield context.problem(
            f"{checked.reached}; a run checks the others.",
            "source",
            code="rows_not_checked",
            severity="info",
        )


def kept_facts(settings: DatasetSettings, project_dir: Path) -> Iterator[Fact]:
    """How far the check of all rows came, for the node."""
    checked = kept(key_of(settings, project_dir)) if results else None
    if checked is not None and checked.reached:
        yield Fact("Check", f"{checked.reached.capitalize()}; a run checks the others.")
