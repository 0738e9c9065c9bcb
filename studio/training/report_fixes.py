"""The remedies that a report offers: changes of settings that lose nothing by surprise.

A fix is on offer only where its node has the setting; whoever applies it edits the project as by
hand (``studio.data_report.apply_fix``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from studio.data_report import Change, Fix
from studio.runs.token_request import TokenRequest

_STEP = 64
_DEAR = 4


def fixes_for(request: TokenRequest, lengths: Any, longest_taken: int | None) -> dict[str, Fix]:
    """The fixes by the code of the finding that they mend. ``longest_taken`` is how many tokens the
    model takes, where that is known."""
    fixes: dict[str, Fix] = {}
    longer = longer_fix(request, lengths, longest_taken)
    if longer is not None:
        fixes.update(dict.fromkeys(("cut_row", "cut_answer", "zero_trained"), longer))
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
    rest = "nothing is cut" if not cut else f"{cut} rows are cut"
    title = f"Raise the max length to {wanted} tokens, so that {rest}"
    return Fix("raise_max_length", title, (Change(request.train, "max_length", wanted),))


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def skips_bad_rows(request: TokenRequest) -> bool:
    """Whether the user lets rows that cannot be read be left out."""
    del request
    return False
