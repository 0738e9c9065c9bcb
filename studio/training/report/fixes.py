"""The fixes offered by a report: changes of settings, which lose no data unexpectedly.

A fix is only offered if its node has the setting. It is applied like an edit by the user
(``studio.preview.report.apply_fix``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from studio.chat_templates import template
from studio.preview.report import Change, Fix
from studio.runs.token_request import TokenRequest
from studio.training.report.totals import Found

_STEP = 64
_DEAR = 4


def fixes_for(request: TokenRequest, lengths: Any, longest_taken: int | None) -> dict[str, Fix]:
    """The fixes by the code of their finding.

    ``longest_taken`` is the model's maximum number of tokens, if known.
    """
    fixes = {code: fix for code, fix in _dataset_fixes(request).items() if fix is not None}
    longer = longer_fix(request, lengths, longest_taken)
    if longer is not None:
        fixes.update(dict.fromkeys(("cut_row", "cut_answer", "zero_trained"), longer))
    change = Change(request.train, "long_text", "split")
    fixes["cut_text"] = Fix("split_text", "Split longer texts into several rows", (change,))
    return fixes


def longer_fix(request: TokenRequest, lengths: Any, longest_taken: int | None) -> Fix | None:
    """A maximum length that truncates no row, or one row in 100 if that is much shorter."""
    present = request.max_length
    if not len(lengths) or int(lengths.max()) <= present:
        return None
    most = min(longest_taken or 1 << 20, 1 << 20)
    wanted = _rounded(int(lengths.max()))
    if wanted > most or wanted > _DEAR * present:
        wanted = min(most, max(_rounded(int(np.quantile(lengths, 0.99))), present))
    if wanted <= present:
        return None
    cut = int((lengths > wanted).sum())
    if cut == int((lengths > present).sum()):
        return None  # it would take memory without fixing anything
    rest = (
        ("nothing is truncated", "1 row is truncated")[cut]
        if cut < 2
        else f"{cut} rows are truncated"
    )
    title = f"Raise the maximum length to {wanted} tokens, so that {rest}"
    return Fix("raise_max_length", title, (Change(request.train, "max_length", wanted),))


def ignore_fix(request: TokenRequest, unused: Iterable[str]) -> Fix | None:
    """State that columns and keys are intentionally not used."""
    step = request.plan.step(request.dataset)
    if step.type != "dataset":
        return None
    known = list(step.settings.get("ignored_columns") or ())
    wanted = list(dict.fromkeys([*known, *(name.rpartition("[].")[2] for name in unused)]))
    change = Change(step.node, "ignored_columns", wanted)
    return Fix("ignore_columns", "Ignore these columns", (change,))


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _dataset_fixes(request: TokenRequest) -> dict[str, Fix | None]:
    """The fixes in the Dataset node, if a single node provides all rows."""
    alike = _dataset_fix(request, "deduplicate", "Remove duplicates", True)
    leaks = _dataset_fix(request, "drop_validation_leaks", "Move leaks to training", True)
    bad = _dataset_fix(request, "on_bad_rows", "Skip invalid rows", "skip")
    return {
        "duplicate": alike and replace(alike, id="deduplicate"),
        "leak": leaks and replace(leaks, id="leaks_to_train"),
        "bad_row": bad and replace(bad, id="skip_bad_rows"),
        "rendered_chat": _conversations_fix(request),
    }


def _conversations_fix(request: TokenRequest) -> Fix | None:
    """Read rendered conversations in the text column as messages."""
    step = request.plan.step(request.dataset)
    if step.type != "dataset" or step.settings.get("format") not in ("auto", "text"):
        return None
    own = dict(step.settings.get("format_settings") or {})
    changes = [Change(step.node, "format", "rendered_chat")]
    kept = {name: value for name, value in own.items() if name == "text_column"}
    if kept != own:
        changes.append(Change(step.node, "format_settings", kept))
    return Fix("read_as_conversations", "Read as conversations", tuple(changes))


def _dataset_fix(request: TokenRequest, setting: str, title: str, value: Any) -> Fix | None:
    step = request.plan.step(request.dataset)
    if step.type != "dataset" or step.settings.get(setting, value) == value:
        return None
    return Fix(setting, title, (Change(step.node, setting, value),))


def template_fixes(request: TokenRequest, templates: Mapping[str, str]) -> dict[str, Fix]:
    """Another chat template by the code of a finding, where one of the library solves it."""
    return {
        code: Fix(
            f"template_{name}",
            f"Use the chat template “{template(name).title}”",
            (Change(request.train, "chat_template", name),),
        )
        for code, name in templates.items()
        if name
    }


def drop_fix(request: TokenRequest, code: str, found: Found) -> Fix | None:
    """Exclude the rows of a finding by number; only if all of them are listed."""
    step = request.plan.step(request.dataset)
    if step.type != "dataset" or "drop_rows" not in step.settings:
        return None
    if found.count > len(found.places):
        return None
    numbers = ", ".join(str(p.number) for p in found.places)
    rows = "this row" if found.count == 1 else f"these {found.count} rows"
    wanted = ", ".join(filter(None, [str(step.settings["drop_rows"]), numbers]))
    return Fix(f"drop_{code}", f"Exclude {rows}", (Change(step.node, "drop_rows", wanted),))


def setting_of(request: TokenRequest, name: str) -> Any:
    """A setting of the Dataset node that provides the rows; ``None`` without one."""
    step = request.plan.step(request.dataset)
    return step.settings.get(name) if step.type == "dataset" else None
