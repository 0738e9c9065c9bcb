"""The files of a Dataset node by the side of its split, and the split that applies to them.

The step, the quick check, the tables and the report all ask here, so that they agree. A folder may
name its sides itself (``studio.data.reading.splits``); which of them are used depends on the
setting “Validation rows”. Test files are used by none of its choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading import walk
from studio.data.reading.archive import archive_of
from studio.data.reading.file_types import kind_of_name
from studio.data.reading.folder import Found, Remark, find_files, is_hub, parts_of
from studio.data.reading.hub import Fetched, fetched_before, hub_source
from studio.data.reading.source import ReadOptions
from studio.data.reading.splits import ALL
from studio.errors import StudioError
from studio.graph.node_type import Fact
from studio.graph.schema import Settings, fields_of
from studio.node_settings.dataset import AUTOMATIC, DatasetSettings, keeps_validation
from studio.system.number_text import percent, quantity

_HELD_APART = Path("validation")
"""Stands between training and validation files in a list that identifies the data."""


@dataclass(frozen=True)
class Sources:
    """The files to read, in order. ``settings`` are those of the node with the split that applies:
    ``file`` where ``validation`` holds the validation rows. ``test`` files are not read;
    ``test_elsewhere`` counts those that were not downloaded. ``by_name``: names decide which files
    are for validation."""

    settings: DatasetSettings
    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    remarks: tuple[Remark, ...] = ()
    test_elsewhere: int = 0
    by_name: bool = False


def sources_of(settings: DatasetSettings, project_dir: Path, *, downloads: bool = False) -> Sources:
    """The files of the settings; raises ``StudioError`` when none is chosen or found, or when a
    choice is left to the user.

    If ``downloads`` is set, a dataset on the Hub may still have to be downloaded, and has no files
    until then.
    """
    found, elsewhere = _found(settings, project_dir, downloads)
    mode = settings.split_mode
    train, validation = found.files, found.validation
    remarks = [*found.remarks]
    if mode == "file":
        validation, more = _validation_files(settings, project_dir, downloads)
        remarks += more
        listed = parts_of(settings.source, project_dir)
        held_out = {p for p in train if p in validation and p not in listed}
        remarks += _unused([p for p in train if p in held_out], "their rows are for validation")
        train = tuple(p for p in train if p not in held_out)
        remarks += _unused(
            [p for p in found.validation if p not in validation],
            "the validation rows are in a file of their own",
        )
    elif mode != AUTOMATIC:
        train = _in_order(found, (*train, *validation, *found.unnamed))
        remarks += _pooled(settings, validation)
        validation = ()
    if not train and not (downloads and is_hub(settings.source)):
        raise _nothing_to_train(settings, found)
    if mode in ("file", AUTOMATIC):
        remarks += _without_split(found)
    effective = {AUTOMATIC: "file" if validation else AUTOMATIC, "share": AUTOMATIC}.get(mode, mode)
    return Sources(
        settings.model_copy(update={"split_mode": effective}),
        train,
        validation,
        tuple(p for p in found.test if p not in validation),
        tuple(dict.fromkeys(remarks)),
        elsewhere,
        bool(validation) and mode == AUTOMATIC,
    )


def describe_sources(
    sources: Sources, train: int = 0, validation: int = 0, test: int = 0
) -> Iterator[Remark]:
    """How names divide the files; with the numbers of rows where they are known."""
    if sources.by_name:
        yield Remark(
            f"The files are split by their names: {_listed(sources.train)} for training"
            f"{_rows(train)}, {_listed(sources.validation)} for validation{_rows(validation)}.",
            level="info",
            code="split_by_name",
        )
    count = len(sources.test) or sources.test_elsewhere
    if count:
        what = _listed(sources.test) if sources.test else quantity(count, "file")
        share = "" if sources.validation else _share(sources.settings)
        they = (
            "is excluded as a test split: it is"
            if count == 1
            else "are excluded as a test split: they are"
        )
        yield Remark(
            f"{what}{_rows(test)} {they} used neither for training nor for validation.{share}",
            "To train on test files, choose the files themselves.",
            "info",
            "test_left_out",
        )
    yield from only_row(sources, train, validation)


def is_one_row(sources: Sources) -> bool:
    """Whether the only file is read as a single row, whatever it contains."""
    return (
        len(sources.train) == 1
        and not sources.validation
        and sources.settings.documents == "file"
        and kind_of_name(sources.train[0]) in ("text", "document")
    )


def only_row(sources: Sources, train: int = 0, validation: int = 0) -> Iterator[Remark]:
    """Says that no row is left for validation, if there is only one; with the numbers of rows where
    they are known."""
    settings = sources.settings
    chosen = settings.split_mode in (AUTOMATIC, "count") and keeps_validation(settings)
    if not chosen or not (is_one_row(sources) or (train, validation) == (1, 0)):
        return
    hint = "Choose a validation file (“Validation rows”: Separate file), or add rows."
    if is_one_row(sources):
        hint = (
            "Choose a validation file (“Validation rows”: Separate file), or set “Rows in text "
            "files” to Paragraphs."
        )
    yield Remark(
        f"{sources.train[0].name} is one row, so no row is left for validation, and no validation "
        "loss is computed."
        if len(sources.train) == 1
        else "There is one row, so no row is left for validation, and no validation loss is computed.",
        hint,
        code="no_validation_rows",
    )


def _share(settings: DatasetSettings) -> str:
    if settings.split_mode != AUTOMATIC or not settings.validation_fraction:
        return ""
    share = percent(settings.validation_fraction)
    return f" {share} of the training rows are held out for validation."


def _rows(count: int) -> str:
    return f" ({quantity(count, 'row')})" if count else ""


_NO_NAME = "\0"
"""No configuration, split, sheet or table has this name: the error about it has the choices."""


def choices_of(settings: DatasetSettings, project_dir: Path, field: str) -> tuple[str, ...]:
    """The configurations or splits of a folder, or the sheets or tables of a file, that a setting can name;
    empty where there are none or they are not known, as for a dataset on the Hub."""
    asked = settings.model_copy(update={field: _NO_NAME})
    try:
        if is_hub(settings.source):
            return ()
        if field != "table":
            find_files(asked.source, project_dir, asked.hub_config, asked.hub_split)
            return ()
        path = sources_of(settings, project_dir).train[0]
        if kind_of_name(path) in ("sheet", "sqlite"):
            from studio.data.reading.reader import (
                read_rows,  # all readers; the first paint needs none
            )

            next(read_rows(path, ReadOptions(table=_NO_NAME)), None)
    except StudioError as error:
        found = error.choices if error.field == field else ()
        several = field == "hub_config" and len(found) > 1
        return (*found, ALL) if several else found
    except (OSError, ValueError):
        pass
    return ()


def source_path(source: str, project_dir: Path) -> Path:
    """The path of the first file; relative paths start from the project's folder."""
    return next(iter(parts_of(source, project_dir)), project_dir)


def dataset_files(settings: DatasetSettings, project_dir: Path) -> Iterator[Path]:
    """The files of a Dataset node that its result depends on; none while they have an error. A dataset
    on the Hub is identified by its name and revision."""
    try:
        sources = sources_of(settings, project_dir, downloads=True)
    except (StudioError, OSError, ValueError):
        return
    own_file = settings.split_mode == "file"
    train = dict.fromkeys(archive_of(p) or p for p in sources.train)
    validation = dict.fromkeys(archive_of(p) or p for p in sources.validation)
    if not is_hub(settings.source):
        yield from train
        if validation and not own_file:
            yield _HELD_APART  # a file that changes sides changes the result
            yield from validation
    if own_file and not is_hub(settings.validation_source):
        yield from validation


def _found(settings: DatasetSettings, project_dir: Path, downloads: bool) -> tuple[Found, int]:
    """The files of the source by their names, and the number of test files on the Hub."""
    if not settings.source.strip():
        raise _no_file("no file is chosen", "source")
    if is_hub(settings.source):
        fetched = _fetched(settings, False, downloads)
        return Found(fetched.files, fetched.validation), fetched.test
    return find_files(settings.source, project_dir, settings.hub_config, settings.hub_split), 0


def _validation_files(
    settings: DatasetSettings, project_dir: Path, downloads: bool
) -> tuple[tuple[Path, ...], tuple[Remark, ...]]:
    """The files of the setting “Validation file”: of a folder that names its sides, the validation
    files; of one that names no training files, all."""
    source = settings.validation_source
    try:
        if not source.strip():
            raise _no_file("no validation file is chosen", "validation_source")
        if is_hub(source):
            return _fetched(settings, True, downloads).files, ()
        found = find_files(source, project_dir, settings.hub_config)
    except StudioError as error:
        error.field = "validation_source" if error.field == "source" else error.field
        raise
    if found.validation:
        left = _unused([*found.test, *found.unnamed], "only files named validation are used")
        return found.validation, (*found.remarks, *left)
    if found.test and found.files:
        raise StudioError(
            f"{source.strip()} has files named train and test, but none named validation.",
            hint="Choose the files with the validation rows themselves.",
            field="validation_source",
            code="no_validation_files",
        )
    return found.all, found.remarks


def _fetched(settings: DatasetSettings, validation: bool, downloads: bool) -> Fetched:
    found = fetched_before(hub_source(settings, validation))
    if found is not None or downloads:
        return found or Fetched((), "")
    field = "validation_source" if validation else "source"
    raise StudioError(
        f"{str(getattr(settings, field)).strip()} is a dataset on the Hub that is not on this machine yet.",
        hint="Run the Dataset node to download it.",
        field=field,
        code="not_fetched",
    )


def _no_file(what: str, field: str) -> StudioError:
    return StudioError(
        f"{what}.", hint="Choose a file with your examples.", field=field, code="no_file"
    )


def _nothing_to_train(settings: DatasetSettings, found: Found) -> StudioError:
    sides = [w for w, files in (("validation", found.validation), ("test", found.test)) if files]
    files = quantity(len((*found.validation, *found.test)), "file")
    what = f"all its files are named {' or '.join(sides)} ({files})"
    if found.declared:
        what = f"of those in its dataset card, only {' and '.join(sides)} files exist ({files})"
    return StudioError(
        f"{settings.source.strip()} has no training files: {what}.",
        hint="Choose a folder with training files. To train on one of these files, choose the file "
        "itself.",
        field="source",
        code="no_train_files",
    )


def _pooled(settings: DatasetSettings, files: tuple[Path, ...]) -> Iterator[Remark]:
    if not files:
        return
    (spec,) = (s for s in fields_of(DatasetSettings) if s.name == "split_mode")
    choice, automatic = spec.choice_label(settings.split_mode), spec.choice_label(AUTOMATIC)
    yield Remark(
        f"{_listed(files, 3)} {'is' if len(files) == 1 else 'are'} named validation, but "
        f"{'its' if len(files) == 1 else 'their'} rows are split like all others, because "
        f"{spec.meta.label} is “{choice}”.",
        f"Select “{automatic}” to use the names.",
        code="split_not_by_name",
    )


def _without_split(found: Found) -> Iterator[Remark]:
    files = [p for p in found.unnamed if not walk.describes(p)]
    why = "other files are named after their split, and the name contains none"
    hint = "Rename what you need so that it begins with train or validation."
    if found.declared:
        why = "the dataset card does not list it"
        hint = "Choose the files themselves if you need them."
    yield from _unused(files, why, hint)


def holds_out(settings: Settings, project_dir: Path) -> bool:
    """Whether a Dataset node has validation rows, as far as settings and names of files tell."""
    keeps = keeps_validation(settings)
    if not isinstance(settings, DatasetSettings):
        return keeps
    try:
        sources = sources_of(settings, project_dir, downloads=True)
    except (StudioError, OSError, ValueError):
        return keeps
    return bool(sources.validation) or (keeps and not is_one_row(sources))


def facts_of_sources(settings: DatasetSettings, project_dir: Path) -> Iterator[Fact]:
    """How names divide the files, for the node."""
    try:
        sources = sources_of(settings, project_dir, downloads=True)
    except (StudioError, OSError, ValueError):
        return
    remarks = [*describe_sources(sources)]
    if remarks:
        short = "split by file names" if sources.by_name else "without test files"
        if any(only_row(sources)):
            short = "no validation rows"
        yield Fact("Split", " ".join(r.sentence for r in remarks), short)


def _unused(files: list[Path], why: str, hint: str = "") -> Iterator[Remark]:
    if files:
        one = len(files) == 1
        yield Remark(
            f"{_listed(files, 3)} {'is' if one else 'are'} not trained, because {why}.",
            hint,
            code="files_left_out",
        )


def _in_order(found: Found, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Files of several sides in the order of a folder without splits: files before folders."""
    if len(files) == len(found.files):
        return files
    return tuple(sorted(files, key=lambda p: (*((1, n) for n in p.parts[:-1]), (0, p.name))))


def _listed(files: tuple[Path, ...] | list[Path], most: int = 2) -> str:
    """The names of a few files, or how many there are; with their folder where names repeat."""
    unique = len({p.name for p in files}) == len(files)
    names = [p.name if unique else f"{p.parent.name}/{p.name}" for p in files]
    if len(names) <= most:
        return " and ".join(names)
    return f"{len(names):,} files ({names[0]}, …)"
