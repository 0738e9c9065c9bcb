"""The check of all rows before a run: every file is read, and every row is converted as in the run.

The quick check (``studio.data.check``) looks at the first rows after each edit. This takes as long
as reading the files, at most some seconds: the terminal calls it, the window calls it on a worker.
The result is kept for the same files and settings, and the Problems of the node include it. Memory
is bounded: nine bytes for each row, eight more where contents are compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from studio.data.canonical import content_hash, to_arrow
from studio.data.check import look_at, options_of
from studio.data.detect import UNUSED, format_of, unused_hint
from studio.data.kept_checks import Checked
from studio.data.reading.archive import stat_of
from studio.data.reading.folder import Remark
from studio.data.rendered_chat import rendered_style
from studio.data.sources import is_one_row, only_row, sources_of
from studio.data.used_rows import UsedRow, UsedRows, refuse_no_rows, rows_for_format
from studio.errors import Problem, StudioError
from studio.graph.node_type import Variant
from studio.node_settings.dataset import DatasetSettings

_NAMED = 5
_MOST_NAMED = 20


def check_rows(
    settings: DatasetSettings,
    project_dir: Path,
    variants: Mapping[str, Variant],
    late: Callable[[], bool] = lambda: False,
) -> Checked:
    """Read the rows until all are read or ``late``, which is asked after each row, says so. What the
    quick check refuses gives an empty result."""
    given = settings
    try:
        sources = sources_of(settings, project_dir)
        settings, own, held_out = sources.settings, sources.train, sources.validation
        rows = rows_for_format(own[0], settings)
        chosen = format_of(settings, own[0], rows, variants)
    except (StudioError, KeyError, OSError, ValueError):
        return Checked()
    used = UsedRows(settings, chosen, options_of(settings))
    check = _Check(settings, used)
    alone: list[Problem] = []
    with suppress(StudioError, OSError):  # stops the check below, too
        check.known = {n for found in look_at(sources, given, variants) for n in found.unused}
    try:
        complete = check.read(own, held_out, late)
        if complete:
            counts = check.split(own[0])
            alone = [] if is_one_row(sources) else _problems(only_row(sources, *counts))
        total = used.read if complete else check.total(own, held_out)
    except StudioError as error:
        return Checked((*check.remarks(), error.problem()), used.read, used.read)
    except OSError:
        return Checked()  # the file changes, or is gone
    return Checked((*check.remarks(), *alone), used.read, total, complete)


def _problems(remarks: Iterable[Remark]) -> list[Problem]:
    return [
        Problem(r.sentence, field="source", hint=r.hint, code=r.code, severity=r.level)
        for r in remarks
    ]


class _Check:
    """The counts of one pass over the files of a Dataset node."""

    def __init__(self, settings: DatasetSettings, used: UsedRows) -> None:
        self._settings, self._used = settings, used
        self._ordinals, self._hashes, self._sides = array("q"), array("Q"), bytearray()
        self._unused = self._bad = self._texts = self._rendered = 0
        self._bad_places: list[str] = []
        self._first_bad: StudioError | None = None
        self._style = ""
        self._late: dict[str, int] = {}
        self.known: set[str] = set()
        """What the quick check reports as unused."""
        self._bytes = 0

    def read(self, own: Iterable[Path], held_out: Iterable[Path], late: Callable[[], bool]) -> bool:
        """Read the files; returns whether all rows were read in time. Raises ``StudioError`` for
        what stops a run."""
        done = 0
        for path, is_held_out in [*((p, False) for p in own), *((p, True) for p in held_out)]:
            if not is_held_out and self._used.full():
                continue
            for row in self._used.rows(path, is_held_out):
                self._take(row, path)
                self._bytes = done + row.row.offset
                if late():
                    return False
            done += stat_of(path).size
        return True

    def _take(self, used: UsedRow, path: Path) -> None:
        if used.error is not None:
            if self._settings.on_bad_rows == "stop":
                raise used.error
            self._bad += 1
            self._first_bad = self._first_bad or used.error
            if len(self._bad_places) < _NAMED:
                self._bad_places.append(f"{path.name}:{used.row.line}")
        elif used.canonical is None:
            self._unused += 1
        else:
            self._keep(used)

    def _keep(self, used: UsedRow) -> None:
        assert used.canonical is not None
        for name in used.unused:
            if name not in self.known:
                self._late[name] = self._late.get(name, 0) + 1
        self._ordinals.append(used.ordinal)
        self._sides.append(used.side == "validation")
        if self._used.split.compares_content:
            self._hashes.append(content_hash(to_arrow(used.canonical)))
        if used.canonical.get("text") is not None:
            self._texts += 1
            style = rendered_style(used.canonical)
            self._rendered += bool(style)
            self._style = self._style or style

    def split(self, path: Path) -> tuple[int, int]:
        """The number of training and validation rows; raises ``StudioError`` when the split of all rows
        stops a run."""
        import numpy as np  # on first use, so that the first paint of the window does not wait for it

        from studio.data.split.sides import refuse_empty_side

        refuse_no_rows(path, len(self._ordinals), self._first_bad, self._unused)
        decision = self._used.split.decide(
            np.array(self._ordinals),
            np.frombuffer(bytes(self._sides), np.uint8).astype(bool),
            np.array(self._hashes, dtype=np.uint64),
        )
        train, validation = int(decision.train.sum()), int(decision.validation.sum())
        refuse_empty_side(self._settings, train, validation)
        return train, validation

    def total(self, own: Iterable[Path], held_out: Iterable[Path]) -> int:
        """About how many rows there are, from the bytes read so far."""
        size = sum(stat_of(p).size for p in (*own, *held_out))
        about = self._used.read * size // self._bytes if self._bytes else 0
        if self._settings.limit:
            about = min(about, self._settings.limit)
        digits = max(0, len(str(about)) - 2)
        return max(self._used.read, round(about, -digits))

    def remarks(self) -> Iterator[Problem]:
        """What a run does not stop at."""
        if self._bad and self._first_bad is not None:
            more = f" and {self._bad - _NAMED} more" if self._bad > _NAMED else ""
            yield Problem(
                f"{self._bad:,} invalid {'row is' if self._bad == 1 else 'rows are'} skipped: "
                f"{', '.join(self._bad_places)}{more}. The first: {self._first_bad.sentence}",
                field="on_bad_rows",
                hint=self._first_bad.hint,
                code="rows_skipped",
                severity="warning",
            )
        if self._late:
            named = [f"“{n}” ({c:,} row{'' if c == 1 else 's'})" for n, c in self._late.items()]
            more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
            yield Problem(
                f"{UNUSED}, in later rows: {', '.join(named[:_MOST_NAMED])}{more}.",
                field="format",
                hint=unused_hint(self._late),
                code="unused_column",
                severity="warning",
            )
        if self._rendered:
            what = (
                "is a conversation that a chat template has already rendered"
                if self._rendered == 1
                else "are conversations that a chat template has already rendered"
            )
            yield Problem(
                f"{self._rendered:,} of {self._texts:,} texts {what} (in the style of {self._style}): "
                f"{'its' if self._rendered == 1 else 'their'} questions are trained, too.",
                field="format",
                hint="Read as conversations: set Format to “Rendered conversations”."
                if self._rendered * 2 > self._texts
                else "Look at these rows in the data report.",
                code="rendered_chat",
                severity="warning",
            )
