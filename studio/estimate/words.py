"""An estimate in words, for the window and the terminal: sizes, whether it fits, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping

from studio.estimate.graph import MARGIN, Estimate
from studio.estimate.phases import Phase
from studio.system.hardware import GIB
from studio.system.number_text import counted, percent, short_duration

PARTS = (
    ("weights", "Weights"),
    ("quantization", "Quantization"),
    ("adapter", "Adapter"),
    ("gradients", "Gradients"),
    ("optimizer", "Optimizer"),
    ("activations", "Activations"),
    ("logits", "Logits"),
    ("workspace", "Workspace"),
    ("allocator", "Allocator"),
    ("framework", "Framework"),
)
BASIS = {
    "formula": "by formula",
    "dry run": "by dry run",
    "measured here": "corrected by a probe",
}
BASIS_EXPLAINED = {
    "formula": "By formula: computed from the sizes of the model, the rows and the settings, without "
    "running anything. A probe measures it on this machine.",
    "dry run": "By dry run: the training step was traced without computing it, which gives the exact "
    "sizes of its tensors.",
    "measured here": "Corrected by a probe: two training steps were measured on this machine, and the "
    "estimate was adjusted to them.",
}
PHASES: Mapping[Phase, str] = {
    "loading": "while loading",
    "training": "during training",
    "checking": "while checking the saved weights",
    "merging": "while merging",
}
_GRAINS_S = ((60, 1), (600, 10), (3600, 60), (36_000, 600), (172_800, 3600), (864_000, 21_600))
"""Below how many seconds an estimate is rounded to what."""
UNKNOWN_TIME = "unknown (run a probe or train once)"


def gib(size: int | float) -> str:
    """Bytes as ``5.2 GiB``, or ``310 MiB`` where that is short of one."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"


def number(size: int | float) -> str:
    """The number of ``gib`` without its unit, for “~5.2 of 8.0 GiB”."""
    return f"{size / GIB:.{1 if size < 10 * GIB else 0}f}"


def short(found: Estimate) -> str:
    """The short form on the node: ``~5.2 of 8.0 GiB · ~12 min``, as far as it is known."""
    known = []
    if found.peak is not None and found.available:
        known.append(f"~{number(found.peak)} of {number(found.available)} GiB")
    if found.seconds is not None:
        known.append(f"~{span(found.seconds)}")
    return " · ".join(known)


def headline(found: Estimate) -> str:
    """Whether it fits, in a sentence."""
    if found.peak is None:
        return " ".join(("The memory requirement is unknown.", *found.notes[:1]))
    verdict = "It fits" if found.fits else "It does not fit"
    sentence = (
        f"{verdict}: about {gib(found.peak)} needed {PHASES[found.phase]} ({basis(found)}), "
        f"{gib(found.available)} free."
    )
    return " ".join(filter(None, (sentence, without_merge(found))))


def basis(found: Estimate) -> str:
    """The source of the peak. Dry runs and probes cover the training only."""
    if found.phase == "training" or found.basis == "formula":
        return BASIS[found.basis]
    return f"by formula, the training {BASIS[found.basis]}"


def basis_explained(found: Estimate) -> str:
    """What the words about the source of the peak mean."""
    return BASIS_EXPLAINED[found.basis]


def without_merge(found: Estimate) -> str:
    """What to do if only the merge does not fit."""
    rest = max((peak for phase, peak in found.peaks.items() if phase != "merging"), default=0)
    if found.fits is not False or rest > MARGIN * found.available:
        return ""
    return f"Without the Merge node {gib(rest)} are enough; the adapter itself can be exported."


def parameters(found: Estimate) -> str:
    """``4.88 M of 139 M (3.5 %)``: what is trained."""
    if found.trainable is None or not found.total:
        return "unknown"
    trainable, total = counted(found.trainable, 3), counted(found.total, 3)
    return f"{trainable} of {total} ({percent(found.trainable / found.total)})"


def span(seconds: float) -> str:
    """A duration rounded to what an estimate knows: ``40 s``, ``2 min 30 s``, ``12 min``, ``3 h 10
    min``, ``2 days 06 h``."""
    grain = next((grain for below, grain in _GRAINS_S if seconds < below), 86_400)
    return short_duration(round(seconds / grain) * grain)


def time_range(low: float, high: float) -> str:
    """``9 to 16 min``, or with both units where they differ."""
    (first, *unit), (_, *last) = span(low).split(), span(high).split()
    same = unit == last and len(unit) == 1
    return f"{first if same else span(low)} to {span(high)}"


def duration(found: Estimate) -> str:
    """``about 12 min (10 to 16 min), from your run of 21 Nov``."""
    if found.seconds is None:
        return UNKNOWN_TIME
    sure = time_range(found.seconds_low or 0.0, found.seconds_high or 0.0)
    return f"about {span(found.seconds)} ({sure}), {found.seconds_from}"


def parts_of_time(found: Estimate) -> list[tuple[str, float]]:
    """The seconds by part, without negligible ones."""
    least = 0.01 * (found.seconds or 0.0)
    return [(name, took) for name, took in found.seconds_parts.items() if took > least]


def time_parts(found: Estimate) -> str:
    """``Training 10 min, evaluations 2 min, loading 20 s``."""
    words = ", ".join(f"{name} {span(took)}" for name, took in parts_of_time(found))
    return f"{words[:1].upper()}{words[1:]}"


def facts(found: Estimate) -> list[tuple[str, str]]:
    """Label and value of each fact besides the memory."""
    steps = "unknown" if found.steps is None else f"{found.steps:,}"
    tokens = "unknown" if found.tokens is None else f"about {counted(found.tokens, 3)}"
    return [
        ("Trainable", parameters(found)),
        ("Steps", steps),
        ("Tokens", tokens),
        *((f"Time, {name}", span(took)) for name, took in parts_of_time(found)),
    ]
