"""The training rows and validation rows, from the files of the Dataset nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import StudioError
from studio.estimate.data_facts import DataFacts, in_pieces, read_data_facts
from studio.estimate.job import Facts, Job
from studio.node_settings.dataset import DatasetSettings

if TYPE_CHECKING:
    from studio.data.sources import Sources

_FILES_READ = 16


def rows_of(job: Job, facts: Facts) -> tuple[DataFacts | None, list[str]]:
    """The training rows without those held out for validation; and the assumptions made."""
    if facts.data is not None:
        return facts.data, []
    each = []
    for settings in job.datasets:
        sources = _files(settings, job)
        found = _facts(sources.train, settings) if sources is not None else None
        if sources is None or found is None:
            return None, ["Row lengths are unknown; the maximum length is assumed for all rows."]
        count = min(found.rows, settings.limit) if settings.limit else found.rows
        held_out, kept_apart = _validation(sources, count)
        rest = replace(found, rows=count - held_out, validation=held_out + kept_apart)
        split = job.train.long_text == "split"
        each.append(in_pieces(rest, job.train.max_length) if split else rest)
    if not each:
        return None, ["No dataset is connected; rows of the maximum length are assumed."]
    rows = sum(d.rows for d in each)
    mean = sum(d.rows * d.mean for d in each) / max(1, rows)
    labels = sum(d.rows * d.mean * d.labels for d in each) / max(1.0, rows * mean)
    data = DataFacts(
        rows,
        mean,
        max(d.longest for d in each),
        labels,
        validation=sum(d.validation for d in each),
        lengths=tuple(n for d in each for n in d.lengths),
    )
    return data, ["Token counts are estimated as a quarter of the number of characters."]


def sources_of(job: Job) -> tuple[str, ...]:
    """The files that a training's rows are from, resolved."""
    from studio.data.sources import source_path

    named = (str(settings.source).strip() for settings in job.datasets)
    return tuple(sorted(str(source_path(name, job.project_dir)) for name in named if name))


def _files(settings: DatasetSettings, job: Job) -> Sources | None:
    """The files for training and validation; ``None`` while they have an error."""
    from studio.data.sources import sources_of

    try:
        return sources_of(settings, job.project_dir, downloads=True)
    except (StudioError, OSError, ValueError):
        return None


def _facts(files: tuple[Path, ...], settings: DatasetSettings) -> DataFacts | None:
    """Facts of all files together; of many, the first ones stand for the rest."""
    read = [read_data_facts(path, settings.documents) for path in files[:_FILES_READ]]
    known = [facts for facts in read if facts is not None]
    if not known or len(known) < len(read):
        return None
    if len(files) == 1:
        return known[0]
    rows = sum(f.rows for f in known)
    mean = sum(f.rows * f.mean for f in known) / max(1, rows)
    labels = sum(f.rows * f.mean * f.labels for f in known) / max(1.0, rows * mean)
    return DataFacts(
        round(rows * len(files) / len(known)),
        mean,
        max(f.longest for f in known),
        labels,
        texts=tuple(n for f in known for n in f.texts) if all(f.texts for f in known) else (),
        lengths=tuple(n for f in known for n in f.lengths),
    )


def _validation(sources: Sources, count: int) -> tuple[int, int]:
    """Rows held out of ``count`` for validation, and those that lie in files of their own. The
    effect of a split column is unknown without reading all rows: none is assumed."""
    settings = sources.settings
    if settings.split_mode in ("fraction", "group"):
        if not settings.validation_fraction or count < 2:
            return 0, 0
        share = round(count * settings.validation_fraction)
        return min(max(share, 1), count - 1), 0  # neither split is empty
    if settings.split_mode == "count":
        return min(settings.validation_count, max(0, count - 1)), 0
    if settings.split_mode == "file":
        found = _facts(sources.validation, settings)
        return 0, found.rows if found is not None else 0
    return 0, 0
