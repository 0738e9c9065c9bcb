"""The remedies that a report offers: changes of settings that lose nothing by surprise.

A fix is on offer only where its node has the setting; whoever applies it edits the project as by
hand (``studio.preview.report.apply_fix``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from studio.preview.report import Change, Fix
from studio.runs.token_request import TokenRequest
from studio.training.report.totals import Found

_STEP = 64
_DEAR = 4


def fixes_for(request: TokenRequest, lengths: Any, longest_taken: int | None) -> dict[str, Fix]:
    """The fixes by the code of the finding that they fix. ``longest_taken`` is how many tokens the
    model takes, where that is known."""
    fixes = {code: fix for code, fix in _dataset_fixes(request).items() if fix is not None}
    longer = longer_fix(request, lengths, longest_taken)
    if longer is not None:
        fixes.update(dict.fromkeys(("cut_row", "cut_answer", "zero_trained"), longer))
    change = Change(request.train, "long_text", "split")
    fixes["cut_text"] = Fix("split_text", "Split longer texts into pieces", (change,))
    return fixes


def longer_fix(request: TokenRequest, lengths: Any, longest_taken: int | None) -> Fix | None:
    """A max length that cuts nothing; where that is much longer, one that cuts one row in 100."""
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
        return None  # it would cost memory and fix nothing
    rest = ("nothing is cut", "1 row is cut")[cut] if cut < 2 else f"{cut} rows are cut"
    title = f"Raise the max length to {wanted} tokens, so that {rest}"
    return Fix("raise_max_length", title, (Change(request.train, "max_length", wanted),))


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _dataset_fixes(request: TokenRequest) -> dict[str, Fix | None]:
    """What the Dataset node can do about rows, where one node made them all."""
    alike = _dataset_fix(request, "deduplicate", "Remove duplicates", True)
    leaks = _dataset_fix(request, "drop_validation_leaks", "Move leaks to training", True)
    bad = _dataset_fix(request, "on_bad_rows", "Skip invalid rows", "skip")
    return {
        "duplicate": alike and replace(alike, id="deduplicate"),
        "leak": leaks and replace(leaks, id="leaks_to_train"),
        "bad_row": bad and replace(bad, id="skip_bad_rows"),
    }


def _dataset_fix(request: TokenRequest, setting: str, title: str, value: Any) -> Fix | None:
    step = request.plan.step(request.dataset)
    if step.type != "dataset" or step.settings.get(setting, value) == value:
        return None
    return Fix(setting, title, (Change(step.node, setting, value),))


def drop_fix(request: TokenRequest, code: str, found: Found) -> Fix | None:
    """Leaving out the rows of a finding by their numbers; only where all of them are named."""
    step = request.plan.step(request.dataset)
    if step.type != "dataset" or "drop_rows" not in step.settings:
        return None
    if found.count > len(found.places):
        return None
    numbers = ", ".join(str(p.number) for p in found.places)
    rows = "this row" if found.count == 1 else f"these {found.count} rows"
    wanted = ", ".join(filter(None, [str(step.settings["drop_rows"]), numbers]))
    return Fix(f"drop_{code}", f"Leave out {rows}", (Change(step.node, "drop_rows", wanted),))


def setting_of(request: TokenRequest, name: str) -> Any:
    """A setting of the Dataset node that made the rows; ``None`` without one."""
    step = request.plan.step(request.dataset)
    return step.settings.get(name) if step.type == "dataset" else None
