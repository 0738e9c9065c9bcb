"""The process in which mlx-lm reads an adapter on its base: ``python -m studio.training.export.parity.read_mlx``.

It gets one JSON object on standard input and answers in JSON lines: ``progress``, then ``found``. The log-probabilities
are written into the folder ``out`` as ``NAME.npy`` (positions, vocabulary). torch is not imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_TIMED = 16
"""Tokens that are generated one by one to measure the speed."""


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    asked = json.load(sys.stdin)
    tell(found=read(asked))
    return 0


def tell(**message: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(message), flush=True)


def read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Log-probabilities, generated tokens, end tokens and speed of the adapter on its base."""
    import mlx.core as mx
    from mlx_lm.utils import load_adapters, load_model

    tell(progress="loading the model")
    model, config = load_model(Path(asked["model"]))
    model = load_adapters(model, asked["adapter"])
    model.set_dtype(getattr(mx, asked["dtype"]))
    model.eval()
    out, name = Path(asked["out"]), asked["name"]
    rows = []
    for number, row in enumerate(asked["rows"]):
        tell(progress="comparing", done=number, total=len(asked["rows"]))
        before = [place - 1 for place in row["places"]]
        logits = model(mx.array([row["ids"][: before[-1] + 1]]))[0].astype(mx.float32)
        chosen = np.array(logits)[before].astype(np.float64)
        chosen -= chosen.max(-1, keepdims=True)
        chosen -= np.log(np.exp(chosen).sum(-1, keepdims=True))
        rows.append(chosen.astype(np.float32))
    np.save(out / f"{name}.npy", np.concatenate(rows))
    found = np.array(model.model.embed_tokens(mx.array(asked["sample"])).astype(mx.float32))
    size = np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
    np.save(out / f"{name}-embedding.npy", found / size)
    ends = _ends(Path(asked["model"]), config)
    generated = []
    for number, prompt in enumerate(asked["prompts"]):
        tell(progress="generating answers", done=number, total=len(asked["prompts"]))
        generated.append(_greedy(model, prompt, asked["new_tokens"], ends))
    return {"generated": generated, "ends": sorted(ends), "speed": _speed(model, asked)}


def _ends(folder: Path, config: Mapping[str, Any]) -> set[int]:
    """The end tokens that mlx-lm takes from the files of a model."""
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
    return {int(i) for i in tokenizer.eos_token_ids}


def _greedy(model: Any, prompt: Sequence[int], count: int, ends: set[int]) -> list[int]:
    """The greedy tokens after a prompt, up to an end token."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache, given, found = make_prompt_cache(model), list(prompt), []
    for _ in range(count):
        token = int(mx.argmax(model(mx.array([given]), cache=cache)[0, -1]).item())
        if token in ends:
            break
        found.append(token)
        given = [token]
    return found


def _speed(model: Any, asked: Mapping[str, Any]) -> float | None:
    """Tokens per second for one prompt."""
    prompt = asked["prompts"][0]
    began = time.perf_counter()
    _greedy(model, prompt, 1, set())
    first = time.perf_counter()
    _greedy(model, prompt, 1 + _TIMED, set())
    spent = time.perf_counter() - first - (first - began)
    return _TIMED / spent if spent > 0 else None


if __name__ == "__main__":
    sys.exit(main())
