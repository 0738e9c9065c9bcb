"""What the lengths of the rows say about a max length, in a sentence. No widgets here."""

from __future__ import annotations

from studio.preview.report import Histogram
from studio.system.number_text import percent


def caption(shown: Histogram, length: int | None = None) -> str:
    """What the histogram says about the max length that the report was made with, or about another."""
    if length is not None and length != shown.max_length:
        return _would(shown, length)
    longest = f"The longest row has {shown.longest:,}."
    most = f"the max length of {shown.max_length:,} tokens"
    if not shown.cut and not shown.divided:
        return f"No row is longer than {most}; {longest[0].lower()}{longest[1:]}"
    split = "1 text is" if shown.divided == 1 else f"{shown.divided:,} texts are"
    if not shown.cut:
        return f"{split} longer than {most} and split. {longest}"
    rows = "1 row is" if shown.cut == 1 else f"{shown.cut:,} rows are"
    told = f"{rows} longer than {most} and truncated"
    if shown.end_lost:
        told += f"; {shown.end_lost:,} of them lose the end of an answer"
    if shown.divided:
        told += f"; {split} longer and split"
    return f"{told}. {longest}"


def _would(shown: Histogram, length: int) -> str:
    longer = shown.longer_than(length)
    if not longer:
        return (
            f"No row would be longer than {length:,} tokens; the longest row has {shown.longest:,}."
        )
    rows = "1 row" if longer == 1 else f"{longer:,} rows"
    share = percent(longer / max(1, sum(shown.rows)))
    return (
        f"{rows} ({share}) would be longer than {length:,} tokens. The longest row has "
        f"{shown.longest:,}."
    )
