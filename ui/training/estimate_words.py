"""An estimate in words: sizes, counts, whether it fits. Plain functions without Qt."""

from __future__ import annotations

from studio.estimate.graph import Estimate
from studio.figures import counted, percent
from studio.hardware import GIB

PARTS = (
    ("weights", "Weights"),
    ("quantization", "Quantization"),
    ("adapter", "Adapter"),
    ("gradients", "Gradients"),
    ("optimizer", "Optimizer"),
    ("activations", "Activations"),
    ("logits", "Logits"),
    ("workspace", "Work space"),
    ("allocator", "Allocator"),
    ("framework", "Framework"),
)
BASIS = {"formula": "by formula", "dry run": "by dry run", "measured here": "measured here"}


def gib(size: int | float) -> str:
    """Bytes as ``5.2 GiB``, or ``310 MiB`` where that is short of one."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"


def number(size: int | float) -> str:
    """The figure of ``gib`` without its unit, for “~5.2 of 8.0 GiB”."""
    return f"{size / GIB:.1f}"


def short(found: Estimate) -> str:
    """What stands on the node: ``~5.2 of 8.0 GiB``, or nothing."""
    if found.peak is None or not found.available:
        return ""
    return f"~{number(found.peak)} of {number(found.available)} GiB"


def headline(found: Estimate) -> str:
    """Whether it fits, in a sentence."""
    if found.peak is None:
        return "How much memory it needs is not known yet."
    verdict = "It fits" if found.fits else "It does not fit"
    return (
        f"{verdict}: about {gib(found.peak)} of {gib(found.available)} that are free, "
        f"{BASIS[found.basis]}."
    )


def parameters(found: Estimate) -> str:
    """``4.88 M of 139 M (3.5 %)``: what is trained."""
    if found.trainable is None or not found.total:
        return "not known"
    trainable, total = counted(found.trainable, 3), counted(found.total, 3)
    return f"{trainable} of {total} ({percent(found.trainable / found.total)})"


def duration(found: Estimate) -> str:
    """``about 3 min, ± 30 %``."""
    if found.seconds is None:
        return "not known before a probe"
    minutes = found.seconds / 60
    told = f"{found.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
    if minutes >= 120:
        told = f"{minutes / 60:.1f} h"
    return f"about {told}, ± {percent(found.seconds_off or 0)}"


def facts(found: Estimate) -> list[tuple[str, str]]:
    """Label and value of each figure beside the memory."""
    steps = "not known" if found.steps is None else f"{found.steps:,}"
    tokens = "not known" if found.tokens is None else f"about {counted(found.tokens, 3)}"
    return [
        ("Trained", parameters(found)),
        ("Steps", steps),
        ("Tokens", tokens),
        ("Time", duration(found)),
    ]
