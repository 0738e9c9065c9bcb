"""The tokens at which a saved model stops by itself, in whatever program asks it.

Why: a model that learned another chat template ends its answers with another token than its base
did, and programs that ask it look into generation_config.json. It must not drop what stood there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio.training.generate import turn_end_id


def write_stop_token(folder: Path, tokenizer: Any) -> None:
    """Add the token that ends an answer of the tokenizer's chat template to the model's end tokens,
    if it is not one of them."""
    end = turn_end_id(tokenizer)
    if end is None:
        end = tokenizer.eos_token_id
    path = folder / "generation_config.json"
    generation = _read(path)
    known = generation.get("eos_token_id", _read(folder / "config.json").get("eos_token_id"))
    ids = known if isinstance(known, list) else [known]
    if end is None or end in ids:
        return
    generation["eos_token_id"] = [*(i for i in ids if i is not None), end]
    path.write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
