"""llama.cpp as a reader of GGUF files, in a process of its own. Run as a program, it answers one request.

It needs the package xllamacpp, an optional binding of llama.cpp; tests that use it are skipped without it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

needs_llama_cpp = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="xllamacpp (llama.cpp for Python) is not installed"
)

READABLE = 5
"""A token of the tiny vocabulary that is a whole character."""


def ask(model: Path, *requests: dict[str, Any], lora: Path | None = None) -> list[dict[str, Any]]:
    """The answers of llama.cpp to completion requests."""
    data = {"model": str(model), "lora": str(lora) if lora else None, "requests": requests}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(data),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, f"llama.cpp did not answer ({done.returncode}): {done.stderr[-3000:]}"
    found: list[dict[str, Any]] = json.loads(lines[-1].removeprefix("ANSWER "))
    return found


def log_probabilities(
    model: Path, prompts: Sequence[list[int] | str], vocabulary: int, lora: Path | None = None
) -> list[dict[int, float]]:
    """The natural logarithms of the probabilities of the token after each prompt (ids or a text), by token."""
    # A token that ends the text or is half a character would be answered without probabilities; they are those
    # before the bias.
    bias = [[READABLE, 1000.0]]
    options = {"n_predict": 1, "n_probs": vocabulary, "temperature": -1, "cache_prompt": False}
    requests = [{"prompt": p, "logit_bias": bias, **options} for p in prompts]
    found = []
    for answer in ask(model, *requests, lora=lora):
        (place,) = answer["choices"][0]["logprobs"]["content"]
        found.append({p["id"]: p["logprob"] for p in place["top_logprobs"]})
    return found


def _answer(data: dict[str, Any]) -> list[Any]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = data["model"]
    params.n_ctx = 256
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if data["lora"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(data["lora"], 1.0)]
    server = xllamacpp.Server(params)
    return [server.handle_completions(request) for request in data["requests"]]


if __name__ == "__main__":
    answers = _answer(json.load(sys.stdin))
    print("ANSWER " + json.dumps(answers), flush=True)
    os._exit(0)  # without waiting for the threads of the server
