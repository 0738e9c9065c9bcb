"""A chat template that rejects every row, found before a run: the first rows are rendered with it.

It takes a second to start the process that renders, so this belongs to the check of all rows
(``studio.runs.row_check``), and the Train node shows what was found. Templates and special tokens are
read from the files of the model, without its tokenizer. Where a run may do otherwise, nothing is found.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from studio import chat_templates
from studio.chat_templates.chats import Chat, ChatTemplate, render_chats
from studio.chat_templates.render import TemplateFailed
from studio.data.canonical import as_template_messages
from studio.data.check import options_of
from studio.data.detect import format_of
from studio.data.kept_checks import key_of
from studio.data.sources import sources_of
from studio.data.used_rows import UsedRows, rows_for_format
from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext, Variant
from studio.graph.schema import Settings
from studio.model.folder_files import json_or_empty, read_text
from studio.model.models import local_folder
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.train import TrainSettings
from studio.system.file_stamp import file_stamp

ROWS = 16
SECONDS = 2.0
_READ_AT_MOST = 64
_KEPT = 64
_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
_TEMPLATE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"
_CODE = "template_refuses_all"

Upstream = Mapping[str, tuple[str, Settings | None]]
_found: dict[Hashable, Problem | None] = {}


def is_unchecked(train: TrainSettings, upstream: Upstream, project_dir: Path) -> bool:
    """Whether a Train node has rows and a template that were not tried since they changed."""
    return any(key not in _found for key, _ in _keys(train, upstream, project_dir))


def try_template(
    train: TrainSettings, upstream: Upstream, project_dir: Path, formats: Mapping[str, Variant]
) -> bool:
    """Render the first rows of each Dataset node; returns whether there are new results."""
    new = False
    for key, data in _keys(train, upstream, project_dir):
        if key in _found:
            continue
        if len(_found) >= _KEPT:
            _found.clear()
        _found[key] = _problem(train, _folder(upstream, project_dir), data, project_dir, formats)
        new = True
    return new


def kept_problems(train: TrainSettings, context: CheckContext) -> Iterator[Problem]:
    """What ``try_template`` has found for a Train node with these settings."""
    if not _found or not context.all_rows:
        return
    for key, _ in _keys(train, context.upstream, context.project_dir):
        p = _found.get(key)
        if p is not None:
            yield context.problem(p.sentence, p.field, hint=p.hint, code=p.code)
            return


def _keys(
    train: TrainSettings, upstream: Upstream, project_dir: Path
) -> Iterator[tuple[Hashable, DatasetSettings]]:
    """What decides the outcome, for each Dataset node."""
    folder = _folder(upstream, project_dir)
    if train.objective != "sft" or folder is None:
        return
    own = (train.chat_template, train.custom_template, train.chat_template_kwargs)
    stamps = tuple(_stamp(folder / name) for name in (_TEMPLATE, _CONFIG))
    for kind, data in upstream.values():
        rows = key_of(data, project_dir) if isinstance(data, DatasetSettings) else None
        if kind == "dataset" and rows is not None and isinstance(data, DatasetSettings):
            yield (own, str(folder), stamps, rows), data


def _stamp(path: Path) -> Hashable:
    try:
        return file_stamp(path)
    except OSError:
        return None


def _folder(upstream: Upstream, project_dir: Path) -> Path | None:
    models = (s for _, s in upstream.values() if isinstance(s, BaseModelSettings))
    base = next(models, None)
    return local_folder(base.model.strip(), project_dir) if base is not None else None


def _problem(
    train: TrainSettings,
    folder: Path | None,
    data: DatasetSettings,
    project_dir: Path,
    formats: Mapping[str, Variant],
) -> Problem | None:
    assert folder is not None
    config = json_or_empty(folder, _CONFIG)
    kwargs = chat_templates.template_kwargs(train.chat_template_kwargs)
    tried, why, slow = 0, "", False
    for row in islice(_conversations(data, project_dir, formats), ROWS):
        source = _source(train, folder, config, tools=bool(row.get("tools")))
        if source is None:
            return None
        template = ChatTemplate(
            chat_templates.with_defaults(source, kwargs), _special_tokens(config), SECONDS
        )
        messages = as_template_messages(row["messages"])
        own = row.get("chat_template_kwargs") or {}
        chat = Chat(messages, row.get("tools"), [(len(messages), False)], own)
        ((outcome,),) = render_chats(template, [chat])
        if not isinstance(outcome, TemplateFailed):
            return None
        tried, why = tried + 1, outcome.why
        slow = outcome.slow
        if slow:
            break
    if not tried:
        return None
    of_whom = {"model": "of the model ", "custom": ""}.get(train.chat_template, "")
    kind = "custom chat template" if train.chat_template == "custom" else "chat template"
    rows = "the first row" if tried == 1 else f"all of the first {tried} rows"
    name = Path(data.source).name or data.source
    what = f"rejects {rows} of {name}: {why.rstrip('.! ')}"
    if slow:
        what = f"does not terminate on a row of {name}: it {why}"
    return Problem(
        f"the {kind} {of_whom}{what}.",
        field="custom_template" if train.chat_template == "custom" else "chat_template",
        hint="Choose another chat template, or change the rows.",
        code=_CODE,
    )


def _conversations(
    data: DatasetSettings, project_dir: Path, formats: Mapping[str, Variant]
) -> Iterator[Mapping[str, Any]]:
    """The first rows with messages. Rows with calls are left out: a run tries two spellings of them."""
    try:
        sources = sources_of(data, project_dir)
        rows = rows_for_format(sources.train[0], sources.settings)
        chosen = format_of(sources.settings, sources.train[0], rows, formats)
        used = UsedRows(sources.settings, chosen, options_of(sources.settings))
        for row in islice(used.rows(sources.train[0], False), _READ_AT_MOST):
            found = row.canonical
            if found and found.get("messages") and not _has_calls(found["messages"]):
                yield found
    except (StudioError, KeyError, OSError, ValueError, IndexError):
        return  # found by the check of the rows


def _has_calls(messages: Iterable[Mapping[str, Any]]) -> bool:
    return any(m.get("tool_calls") for m in messages)


# ------------------------------------------------------------------ files of the model


def _source(
    train: TrainSettings, folder: Path, config: Mapping[str, Any], *, tools: bool
) -> str | None:
    """The template of a run; ``None`` if there is none, or if it is not known before the run."""
    if train.chat_template == "custom":
        return train.custom_template.strip() or None
    if train.chat_template != "model":
        return chat_templates.template(train.chat_template).source
    if (folder / "additional_chat_templates").is_dir() or "auto_map" in config:
        return None
    found = _text(folder, _TEMPLATE) or config.get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = (tools and named.get("tool_use")) or named.get("default")
    return found if isinstance(found, str) and found else None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens as text; one that is not set is empty, where a template may still name it."""
    found = {}
    for name in _TOKENS:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        found[name] = value if isinstance(value, str) else ""
    return found


def _text(folder: Path, name: str) -> str:
    try:
        return read_text(folder, name)
    except (OSError, ValueError):
        return ""
