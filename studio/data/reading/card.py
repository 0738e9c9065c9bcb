"""The configurations that a dataset card (``README.md``) declares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_MOST_BYTES = 4_000_000
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_CONFIGS = re.compile(r"^configs:.*\n(?:(?:[ \t-].*|#.*|[ \t]*)\n)*", re.MULTILINE)


def card_configs(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """The ``configs`` of the card in a folder; empty without a card or for one that is damaged."""
    card = folder / "README.md"
    try:
        found = card.stat()
    except OSError:
        return ()
    return _read(card, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _read(card: Path, stamp: int, size: int) -> tuple[Mapping[str, Any], ...]:
    import yaml

    del stamp, size  # part of the cache key, so that a changed card is read again
    try:
        with card.open(encoding="utf-8", errors="replace", newline="") as file:
            front = _FRONT.match(file.read(_MOST_BYTES).replace("\r\n", "\n"))
        # The other parts of a card may be long, and only this one says where the files are.
        block = _CONFIGS.search(front.group(1) + "\n") if front else None
        data = yaml.safe_load(block.group()) if block else None
    except (OSError, yaml.YAMLError, RecursionError):
        return ()
    configs = data.get("configs") if isinstance(data, dict) else None
    return tuple(c for c in configs if isinstance(c, dict)) if isinstance(configs, list) else ()
