"""The parity check of an export: what was measured, when it passes, and the likely cause if it does not.

What was written is read back by its own program and compared with the model that was trained. Everything here is
a pure function of the measured numbers, so that the run, the model card, the window and the terminal say the same.

The limits. The Kullback-Leibler divergence is that of the exported model's next-token probabilities from those of
the trained model, in nats, at the positions of the expected answers.

- 16 and 32 bits: rounding weights to bfloat16 usually changes the probabilities by less than 0.001 nats; merges of
  SmolLM2-135M after short trainings by 0.007 to 0.019, which is worth a look. Above 0.05 it is another model.
- 8 bits: Q8_0 of these models is within 0.01; other formats of 8 bits within 0.02.
- Below 8 bits: llama.cpp measures 0.02 to 0.2 for 4 to 6 bits of models with billions of parameters, and more for small
  ones, so that the divergence alone cannot say whether such a file is still useful. The part of the improvement
  that it keeps can.

Small trainings change little: a divergence below these limits may still be all that was learned. So it is also
compared with the adapter's own effect, the divergence of the base model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from studio.system.number_text import percent, significant

Verdict = Literal["green", "amber", "red", "not_proven"]
FILE = "parity.json"
WORDS: dict[str, str] = {
    "green": "✓ proven",
    "amber": "! differs",
    "red": "✕ failed",
    "not_proven": "? not proven",
}
"""How a verdict is shown: a sign and a word, so that colour is never the only one."""
READERS = {
    "transformers": "transformers",
    "peft": "PEFT",
    "llama.cpp": "llama.cpp",
    "mlx": "mlx-lm",
}
RULES: dict[bool | None, str] = {True: "✓ rules met", False: "! refused", None: "? depends"}
"""What the rules of a program that was not run make of an export."""
NOISE = 1e-4
"""Nats: a smaller divergence is rounding in float32, whatever the effect of the adapter."""
LEAST_GAIN = 0.02
"""Nats: a smaller difference of the losses of base and trained model is no improvement that could be lost."""
GAIN_GREEN, GAIN_RED = 0.9, 0.6


@dataclass(frozen=True)
class Limits:
    """Divergences in nats up to which an export passes, and above which it fails; the same as shares of the effect of
    the training."""

    green: float
    red: float
    green_share: float
    red_share: float


LIMITS = {
    16: Limits(0.005, 0.05, 0.05, 0.25),
    8: Limits(0.02, 0.2, 0.1, 0.5),
    4: Limits(0.15, 1.0, 0.5, 1.0),
}
"""Bits per weight -> limits."""


def bits_of(title: str) -> int:
    """The class of precision of an export by its title, such as the quantization of a file."""
    name = title.upper()
    if name.startswith(("F32", "F16", "BF16")):
        return 16
    if name.startswith(("Q8", "FP8", "INT8", "W8")):
        return 8
    return 4 if name.startswith(("Q", "IQ", "TQ", "AWQ", "GPTQ", "NVFP4", "MXFP4", "W4")) else 16


@dataclass(frozen=True)
class Cause:
    """Why an export fails: a sentence and what to do."""

    sentence: str
    hint: str


_AGAIN = "Run the export again. If it fails again, merge the adapter and export the model as safetensors."
CAUSES: dict[str, Cause] = {
    "missing_file": Cause("A file of the export is missing.", _AGAIN),
    "unreadable": Cause(
        "Its program cannot load it.",
        "Run the export again, or choose another format.",
    ),
    "wrong_base": Cause(
        "Its weights belong to another base model.",
        "Choose the base model on which the adapter was trained, and export again.",
    ),
    "wrong_template": Cause(
        "Its chat template is not the one of the training.",
        "Copy the chat template of the training into the export, or export again.",
    ),
    "wrong_end_token": Cause(
        "It ends answers with another token than the training.",
        "Set the end token of the training in the generation config, or export again.",
    ),
    "adapter_missing": Cause("The adapter has no effect: it answers as the base model.", _AGAIN),
    "double_merge": Cause(
        "The adapter was applied twice.",
        "Apply the adapter to the original base model, not to the merged one.",
    ),
    "alpha_lost": Cause(
        "The adapter is applied with another scale than in the training: alpha was lost.",
        "Choose the adapter form Portable, whose scale is 1, and export again.",
    ),
    "modules_lost": Cause(
        "The fully trained modules of the adapter are not in the export.",
        "Merge the adapter and export the model.",
    ),
    "qk_permuted": Cause(
        "The rows of Q and K are in the wrong order for its program.",
        "Export again with the present version, or choose the format Safetensors folder.",
    ),
    "quantization": Cause(
        "The quantization loses too much.",
        "Choose a quantization with more bits, such as Q8_0.",
    ),
    "lossy": Cause(
        "The quantization changes the answers noticeably.",
        "Try it on your own questions, or choose one with more bits.",
    ),
    "weights": Cause("Its weights are not those of the trained model.", _AGAIN),
    "rounding": Cause(
        "It differs slightly, as small models can after rounding.",
        "Try it on your own questions before you use it. If it was merged, float32 in the Merge node avoids rounding.",
    ),
}
"""Code of a cause -> its words."""


@dataclass(frozen=True)
class Check:
    """What was measured of one readable part of an export; numbers that were not measured are ``None``.

    ``kl_mean`` and ``kl_p99`` are in nats per position. ``top1_agreement`` is the share of positions with the same most
    likely token, ``gain_kept`` the share of the improvement in loss from the base model to the trained one that the
    export keeps, ``effect`` the mean divergence of the base model. ``loss_*`` are the mean losses of the expected
    tokens and ``match_*`` the shares of exact matches: ``before`` those of the base model, ``after`` those of the
    trained one. ``diverges`` is the number of the first generated token that differs (0-based). ``template`` and
    ``stop`` say whether rendered prompt and end tokens are those of the training. ``rules`` are what other programs
    make of the same files by their documented rules: ``program``, ``loads``, ``why`` and ``hint`` of each.
    """

    readable: str
    title: str
    reader: str
    verdict: Verdict
    cause: str = ""
    hint: str = ""
    code: str = ""
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1_agreement: float | None = None
    gain_kept: float | None = None
    effect: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    loss_exported: float | None = None
    match_before: float | None = None
    match_after: float | None = None
    match_exported: float | None = None
    diverges: int | None = None
    generated: int | None = None
    template: bool | None = None
    stop: bool | None = None
    bytes: int | None = None
    speed: float | None = None
    prompts: int = 0
    positions: int = 0
    source: str = ""
    reference: str = ""
    rules: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON data; numbers are rounded to six digits."""
        return {k: _rounded(v) for k, v in asdict(self).items()}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def gain_kept(before: float | None, after: float | None, exported: float | None) -> float | None:
    """The share of an improvement in loss that is left; ``None`` if there was none."""
    if before is None or after is None or exported is None or before - after < LEAST_GAIN:
        return None
    return (before - exported) / (before - after)


def judged(check: Check) -> Verdict:
    """The verdict that follows from the numbers and from template and end token."""
    if check.kl_mean is None:
        return "not_proven"
    if check.template is False or check.stop is False or not math.isfinite(check.kl_mean):
        return "red"
    limits = LIMITS[bits_of(check.title)]
    found = _level(check.kl_mean, limits.green, limits.red)
    if check.kl_p99 is not None and check.kl_p99 > 10 * limits.red:
        found = max(found, 1)
    if check.effect is not None and check.kl_mean > NOISE:
        share = check.kl_mean / max(check.effect, NOISE)
        of_effect = _level(share, limits.green_share, limits.red_share)
        if check.gain_kept is not None and check.gain_kept >= GAIN_GREEN:
            of_effect = min(of_effect, 1)
        found = max(found, of_effect)
    if check.gain_kept is not None:
        lost = _level(-check.gain_kept, -GAIN_GREEN, -GAIN_RED)
        found = max(found, lost)
        if lost == 0 and bits_of(check.title) < 16:
            found = min(found, 1)  # what was learned is there
    return ("green", "amber", "red")[found]


def _level(value: float, green: float, red: float) -> int:
    return 0 if value <= green else 1 if value <= red else 2


def worst(verdicts: Sequence[str]) -> str:
    """The verdict of an export with several parts; empty without one."""
    order = ("red", "amber", "not_proven", "green")
    return next((v for v in order if v in verdicts), "")


# ------------------------------------------------------------------ words


COLUMNS = (
    "what",
    "check",
    "gain kept",
    "exact match",
    "size",
    "tokens/s",
    "top-1",
    "KL mean",
    "KL p99",
)
"""The most important first: the last are out of view in a narrow window."""


def row_words(check: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table of ``COLUMNS``."""
    size, speed = _number(check.get("bytes")), _number(check.get("speed"))
    reader = str(check.get("reader"))
    return (
        f"{check.get('title') or check.get('readable')} in {READERS.get(reader, reader)}",
        WORDS.get(str(check.get("verdict")), str(check.get("verdict"))),
        _share(check.get("gain_kept")),
        _matches(check),
        "-" if size is None else f"{size / 1e6:,.1f} MB",
        "-" if speed is None else f"{speed:,.0f}",
        _share(check.get("top1_agreement")),
        _figure(check.get("kl_mean")),
        _figure(check.get("kl_p99")),
    )


Role = Literal["success", "warning", "danger", "text_muted"]


@dataclass(frozen=True)
class Row:
    """A row of the table: the words of ``COLUMNS``, the colour of its second word, and why, with what to do."""

    words: tuple[str, ...]
    role: Role
    cause: str = ""


_ROLES: dict[str, Role] = {
    "green": "success",
    "amber": "warning",
    "red": "danger",
    "not_proven": "warning",
}


def rows_of(check: Mapping[str, Any]) -> list[Row]:
    """The row of a check, and one for each program whose rules were applied instead of running it."""
    cause = f"{check.get('cause') or ''} {needs_hint(check)}".strip()
    role: Role = _ROLES.get(str(check.get("verdict")), "text_muted")
    given = check.get("rules")
    rules = [r for r in given if isinstance(r, Mapping)] if isinstance(given, (list, tuple)) else []
    return [Row(row_words(check), role, cause), *(_rule_row(check, rule) for rule in rules)]


def _rule_row(check: Mapping[str, Any], rule: Mapping[str, Any]) -> Row:
    loads = rule.get("loads") if isinstance(rule.get("loads"), bool) else None
    what = f"{check.get('title') or check.get('readable')} in {rule.get('program')}"
    why, hint = str(rule.get("why") or ""), str(rule.get("hint") or "")
    cause = f"{why[:1].upper()}{why[1:]}. {hint}".strip() if why else ""
    words = (what, RULES[loads], *("-" for _ in COLUMNS[2:]))
    return Row(words, "success" if loads else "warning", cause)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _figure(value: Any) -> str:
    found = _number(value)
    return "-" if found is None else significant(found)


def _share(value: Any) -> str:
    found = _number(value)
    return "-" if found is None else percent(found)


def _matches(check: Mapping[str, Any]) -> str:
    shares = [_number(check.get(f"match_{k}")) for k in ("before", "after", "exported")]
    if shares[1] is None or shares[2] is None:
        return "-"
    before = "" if shares[0] is None else f"{percent(shares[0])} → "
    return f"{before}{percent(shares[1])}; {percent(shares[2])}"


def sentence_of(check: Mapping[str, Any]) -> str:
    """What the check found, in a sentence: ``Q8_0 in llama.cpp: ✓ proven. KL 0.0004, 97 % of the gain kept.``"""
    words = dict(zip(COLUMNS, row_words(check), strict=True))
    parts = [f"KL {words['KL mean']}"] if words["KL mean"] != "-" else []
    if words["exact match"] != "-":
        parts.append(f"exact match {words['exact match']}")
    return _sentence(check, parts)


def short_sentence_of(check: Mapping[str, Any]) -> str:
    """The same for those who want to know whether it can be used: ``Q8_0 in llama.cpp: ✓ proven. 97 % of the gain
    kept.`` The rows of the check are not those of an evaluation, whose exact match may stand beside it."""
    return _sentence(check, [])


def together(verdict: str, checks: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> str:
    """A sentence about several checks with the same verdict: ``✓ proven: Model in transformers, Q8_0 in llama.cpp. At
    least 97 % of the gain kept.`` ``titles`` are those of their nodes, empty where there is one."""
    named = zip(titles, checks, strict=True)
    names = ", ".join(f"{row_words(c)[0]}{f' ({t})' if t else ''}" for t, c in named)
    kept = [k for k in (_number(check.get("gain_kept")) for check in checks) if k is not None]
    at_least = "At least " if len(kept) > 1 and min(kept) < max(kept) else ""
    gain = f" {at_least}{percent(min(kept))} of the gain kept." if kept else ""
    return f"{WORDS.get(verdict, verdict)}: {names}.{gain}"


def _sentence(check: Mapping[str, Any], parts: list[str]) -> str:
    words = dict(zip(COLUMNS, row_words(check), strict=True))
    if words["gain kept"] != "-":
        parts = [*parts, f"{words['gain kept']} of the gain kept"]
    found = f" {', '.join(parts)}." if parts else ""
    cause = f" {check.get('cause')}" if check.get("cause") else ""
    return f"{words['what']}: {words['check']}.{found}{cause}"


def needs_hint(check: Mapping[str, Any]) -> str:
    """What to do about a check that is not green; empty if it is."""
    return "" if check.get("verdict") == "green" else str(check.get("hint") or "")
