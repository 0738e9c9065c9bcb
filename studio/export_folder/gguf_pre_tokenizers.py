"""Which tokenizers llama.cpp has: from the data of ``tokenizer.json``, without a library.

Byte-level BPE needs a pre-tokenizer that llama.cpp knows by a name (``tokenizer.ggml.pre``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.model.folder_files import json_or_empty

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*",
)
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_MARKED_REST = r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE: dict[tuple[tuple[str, ...], bool], str] = {
    (("gpt2",), False): "gpt-2",
    (("digits", "gpt2"), False): "smollm",
    ((rf"{_ENDINGS}|{_LETTERS}|\p{{N}}|{_REST}",), False): "qwen2",
    ((rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|{_MARKED_REST}",), False): (
        "qwen35"
    ),
    ((rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",), True): "llama-bpe",
    ((rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",), False): "dbrx",
    ((rf"{'|'.join(_CASED)}|\p{{N}}|{_CASED_REST}",), True): "tekken",
    (
        (rf"{'|'.join(f'{c}{_ENDINGS}?' for c in _CASED)}|\p{{N}}{{1,3}}|{_CASED_REST}",),
        False,
    ): "gpt-4o",
}
"""(Regular expressions of the pre-tokenizer, whether whole words of the vocabulary are used without merges) -> the
name that llama.cpp has for it."""


def tokenizer_refusal(data: Mapping[str, Any], kept_pre: str = "") -> str:
    """Why llama.cpp cannot have this tokenizer, without a full stop; empty if it can. ``data`` is the content of
    ``tokenizer.json``, ``kept_pre`` the name of the pre-tokenizer if it is known."""
    if not data:
        return "it has no tokenizer.json"
    model = data["model"]
    if model["type"] != "BPE":
        return f"llama.cpp has no tokenizer of the type {model['type']} for this model"
    if not model["merges"]:
        return "llama.cpp needs a vocabulary with merges"
    if model.get("byte_fallback") or kept_pre:
        return ""
    normalizer = data.get("normalizer")
    if normalizer and normalizer["type"] != "NFC":  # llama.cpp does not normalize
        return f"llama.cpp does not normalize text as it does ({normalizer['type']})"
    return "" if pre_tokenizer(data) else "llama.cpp does not know its pre-tokenizer"


def pre_tokenizer(data: Mapping[str, Any]) -> str:
    """The name by which llama.cpp knows the pre-tokenizer; empty if it does not."""
    whole = bool(data["model"].get("ignore_merges"))
    steps = _steps(data.get("pre_tokenizer"))
    return _PRE.get((tuple(s for s in steps if s), whole), "")


def _steps(pre: Mapping[str, Any] | None) -> list[str]:
    """The parts of a pre-tokenizer: regular expressions, or words for what has none. Empty for one that only
    replaces bytes."""
    if pre is None:
        return ["none"]
    kind = pre["type"]
    if kind == "Sequence":
        return [step for part in pre["pretokenizers"] for step in _steps(part)]
    if kind == "ByteLevel" and not pre.get("add_prefix_space"):
        return ["gpt2" if pre.get("use_regex", True) else ""]
    if kind == "Digits" and pre.get("individual_digits"):
        return ["digits"]
    pattern = pre.get("pattern", {}).get("Regex")
    if kind == "Split" and pattern and not pre.get("invert") and pre["behavior"] == "Isolated":
        return [str(pattern)]
    return [f"<{kind}>"]


def stored_tokenizer_refusal(folder: Path) -> str:
    """The same for the tokenizer in a model folder; empty if it cannot be told from its files."""
    path = folder / "tokenizer.json"
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return ""  # others are converted when they are loaded
    kept = str(json_or_empty(folder, "source.json").get("pre_tokenizer") or "")
    return _stored(path, changed, kept)


@lru_cache(maxsize=16)
def _stored(path: Path, changed: int, kept: str) -> str:
    """``changed`` is part of the key: large files are read once until they change."""
    del changed
    try:
        return tokenizer_refusal(json.loads(path.read_text(encoding="utf-8")), kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""  # a damaged file is reported where the model is read
