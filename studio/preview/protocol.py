"""What the window and the terminal say to the data host, and what it answers.

The data host (``python -m studio.training.data_host.host``) is a process of its own that has the
tokenizer and the rows. Both sides speak JSON lines: requests on its standard input, replies on its
standard output. It ends when its standard input ends. ``studio.preview.client`` starts it and speaks
for others; nobody else should need to read this. Nothing here may import torch or Qt.

**Requests**, each ``{"id": N, "ask": NAME, ...}`` with a number that the asker counts up:

- ``open`` ``{request, runs}``: take these data from now on. ``request`` is a ``TokenRequest`` as JSON
  (``studio.runs.token_request``), ``runs`` the folder of runs, where finished steps may lie. What an
  earlier ``open`` began ends as ``cancelled``. Result: ``{tokenizer, rows, max_length}``; the
  folder of the tokenizer, the number of rows in the files, and the max length in tokens.
- ``rows`` ``{first, limit}``: rows from number ``first`` (from 1). Result ``{rows, count}``: each a
  ``TokenRow`` as JSON (``studio.preview.tokens``), in order; chat templates may make several parts of one.
  A row that cannot be read has no tokens but an ``error``. With ``"batch": K`` instead: the rows of
  batch K (from 1) of the training, padded as the trainer pads them; ``first`` and ``limit`` do not
  count then, and the result also has ``{batch, batches, padding}``: the share of padding among the
  tokens of the first epoch, null where rows are not padded.
- ``next_suspicious`` ``{after, kinds}``: the first row behind number ``after`` that has one of these
  flags (``kinds`` empty or absent: any). Progress meanwhile. A duplicate is known as such when this or
  a report has passed the row that it repeats. Result ``{number, flags}``; ``number`` is 0 when there
  is none.
- ``report`` ``{}``: look at every row. Progress and ``partial`` replies meanwhile, each with the
  report as far as it is; result ``{report}``: a ``DataReport`` as JSON (``studio.preview.report``).
- ``templates`` ``{}``: the chat templates one can choose from. Result ``{templates}``: a list of
  ``{id, title, looks, sample, differs, missing_tokens}``; ``differs`` from what the model's own
  template makes of it, ``missing_tokens`` are special tokens that the tokenizer splits into pieces.
- ``preview`` ``{settings, project_dir, first, limit}``: rows as a Dataset node with these settings
  reads them, without any tokenizer; needs no ``open``. Result ``{rows, format, title, reason,
  confidence, formats, columns, bound, left_over, refused}``: each row ``{number, line, source, row}`` with the
  canonical row (see ``studio.data.row_format``), or ``{number, line, source, error, hint}``;
  ``formats`` are all that would fit, ``{id, title, confidence, reason}`` each; ``bound``
  are the columns of the format's settings (see ``studio.data.detect.column_map``); ``left_over`` are
  pairs of a column or key without a role and the reason (see ``studio.data.left_over``); ``refused`` has
  ``{sentence, hint}`` of those that carry content.
- ``cancel`` ``{request}``: end the request with this id. It has no reply of its own.
- ``close`` ``{}``: end the host.

**Replies**, each ``{"id": N, "kind": KIND, ...}``. Any number of ``progress`` ``{title, done, total,
unit, eta_s}`` (all but ``title`` may be null), ``notice`` ``{sentence}`` and ``partial``; then exactly
one of ``result``, ``error`` (a ``Problem`` as JSON: sentence, hint, file, line, code) or
``cancelled``. ``report`` and ``next_suspicious`` run in slices: other requests are answered between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MODULE = "studio.training.data_host.host"
ASKS = ("open", "rows", "next_suspicious", "report", "templates", "preview", "cancel", "close")
Kind = Literal["progress", "notice", "partial", "result", "error", "cancelled"]
LAST: tuple[Kind, ...] = ("result", "error", "cancelled")
HOST_ENDED = "host_ended"
DATA_CHANGED = "data_changed"


@dataclass(frozen=True)
class Reply:
    """One answer to request ``id``. ``last`` tells that no other one follows."""

    id: int
    kind: Kind
    data: Mapping[str, Any]

    @property
    def last(self) -> bool:
        """Whether the request is done with."""
        return self.kind in LAST


def line_of(message: Mapping[str, Any]) -> str:
    """A message as a line."""
    return json.dumps(message) + "\n"


def message_in(line: str) -> dict[str, Any] | None:
    """The message of a line; ``None`` for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def reply_in(line: str) -> Reply | None:
    """The reply of a line; ``None`` for anything else."""
    message = message_in(line)
    if message is None or "kind" not in message or not isinstance(message.get("id"), int):
        return None
    rest = {k: v for k, v in message.items() if k not in ("id", "kind")}
    return Reply(message["id"], message["kind"], rest)
