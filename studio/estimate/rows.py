"""The training rows and validation rows, from the files of the Dataset nodes."""

from __future__ import annotations

from dataclasses import replace

from studio.estimate.data_facts import DataFacts, in_pieces, read_data_facts
from studio.estimate.job import Facts, Job
from studio.node_settings.dataset import DatasetSettings


def rows_of(job: Job, facts: Facts) -> tuple[DataFacts | None, list[str]]:
    """The training rows without those held out for validation; and the assumptions made."""
    if facts.data is not None:
        return facts.data, []
    each = []
    for settings in job.datasets:
        found = _facts(str(settings.source), job)
        if found is None:
            return None, ["Row lengths are unknown; the maximum length is assumed for all rows."]
        count = min(found.rows, settings.limit) if settings.limit else found.rows
        held_out, kept_apart = _validation(settings, count, job)
        rest = replace(found, rows=count - held_out, validation=held_out + kept_apart)
        split = job.train.long_text == "split"
        each.append(in_pieces(rest, job.train.max_length) if split else rest)
    if not each:
        return None, ["No dataset is connected; rows of the maximum length are assumed."]
    rows = sum(d.rows for d in each)
    mean = sum(d.rows * d.mean for d in each) / max(1, rows)
    labels = sum(d.rows * d.mean * d.labels for d in each) / max(1.0, rows * mean)
    data = DataFacts(
        rows, mean, max(d.longest for d in each), labels, validation=sum(d.validation for d in each)
    )
    return data, ["Token counts are estimated as a quarter of the number of characters."]


def sources_of(job: Job) -> tuple[str, ...]:
    """The files that a training's rows are from, resolved."""
    from studio.data.sources import source_path

    named = (str(settings.source).strip() for settings in job.datasets)
    return tuple(sorted(str(source_path(name, job.project_dir)) for name in named if name))


def _facts(source: str, job: Job) -> DataFacts | None:
    from studio.data.sources import source_path

    source = source.strip()
    return read_data_facts(source_path(source, job.project_dir)) if source else None


def _validation(settings: DatasetSettings, count: int, job: Job) -> tuple[int, int]:
    """Rows held out of ``count`` for validation, and those that lie in a file of their own. The
    effect of a split column is unknown without reading all rows: none is assumed."""
    if settings.split_mode in ("fraction", "share", "group"):
        return round(count * settings.validation_fraction), 0
    if settings.split_mode == "count":
        return min(settings.validation_count, max(0, count - 1)), 0
    if settings.split_mode == "file":
        found = _facts(str(settings.validation_source), job)
        return 0, found.rows if found is not None else 0
    return 0, 0
