"""The process in which llama.cpp reads a GGUF file: ``python -m studio.training.export.parity.read_gguf``.

It gets one JSON object on standard input and answers in JSON lines: ``progress``, then ``found``. The log-probabilities
are written into the folder ``out``: ``NAME.npy`` (positions, vocabulary), and ``NAME-known.npy``, which of them
llama.cpp has returned. torch is not imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST = 1000
"""The number of tokens whose probability is asked for at each position: all of a large vocabulary take a second."""
_BIAS = 1000.0


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    asked = json.load(sys.stdin)
    tell(progress="loading the file")
    server = _server(asked)
    _write_probabilities(server, asked)
    generated, speed = _generated(server, asked)
    tell(found={"generated": generated, "speed": speed, "chat_tokens": _chat_tokens(server, asked)})
    sys.stdout.flush()
    os._exit(0)  # without waiting for the threads of the server


def tell(**message: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(message), flush=True)


def _server(asked: Mapping[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    longest = max(len(row["ids"]) for row in asked["rows"])
    params.n_ctx = max(256, longest + asked["new_tokens"] + 8)
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(asked["threads"])
    if asked["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(asked["adapter"], 1.0)]
    return xllamacpp.Server(params)


def _answer(server: Any, **request: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.handle_completions(request)
    if "choices" not in found:
        raise ValueError(f"llama.cpp answered: {json.dumps(found)[:300]}")
    return found


def _write_probabilities(server: Any, asked: Mapping[str, Any]) -> None:
    """Ask for the token at each place, from the tokens before it. The bias makes the generated token a whole character;
    otherwise llama.cpp returns no probabilities. They are those before the bias."""
    size = int(asked["vocabulary"])
    count = min(MOST, size)
    values, known = [], []
    for number, row in enumerate(asked["rows"]):
        tell(progress="comparing", done=number, total=len(asked["rows"]))
        for place in row["places"]:
            answer = _answer(
                server,
                prompt=row["ids"][:place],
                n_predict=1,
                n_probs=count,
                temperature=-1,
                cache_prompt=True,
                logit_bias=[[asked["readable"], _BIAS]],
            )
            (token,) = answer["choices"][0]["logprobs"]["content"]
            listed = token["top_logprobs"]
            ids = np.array([t["id"] for t in listed])
            logs = np.array([t["logprob"] for t in listed], dtype=np.float64)
            width = max(size, int(ids.max()) + 1)
            rest = max(1e-12, 1 - float(np.exp(logs).sum())) / max(1, width - len(ids))
            dense = np.full(width, np.log(rest), dtype=np.float32)
            dense[ids] = logs
            seen = np.zeros(width, dtype=bool)
            seen[ids] = True
            values.append(dense[:size])
            known.append(seen[:size])
    out, name = Path(asked["out"]), asked["name"]
    np.save(out / f"{name}.npy", np.stack(values))
    np.save(out / f"{name}-known.npy", np.stack(known))


def _generated(server: Any, asked: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float | None]:
    """The greedy answer to each prompt, up to an end token, and the tokens per second. ``ids`` is ``None`` if llama.cpp
    has not listed every token: it leaves out those that are half a character."""
    found: list[dict[str, Any]] = []
    tokens, spent = 0.0, 0.0
    for number, prompt in enumerate(asked["prompts"]):
        tell(progress="generating answers", done=number, total=len(asked["prompts"]))
        answer = _answer(
            server,
            prompt=prompt,
            n_predict=asked["new_tokens"],
            n_probs=1,
            temperature=-1,
            cache_prompt=True,
        )
        choice = answer["choices"][0]
        content = (choice.get("logprobs") or {}).get("content") or []
        ids = [t["id"] for t in content]
        while ids and ids[-1] in asked["ends"]:
            ids.pop()
        count = (answer.get("usage") or {}).get("completion_tokens", 0)
        listed = len(content) >= count - 1  # the end token is counted, and may not be listed
        found.append({"ids": ids if listed else None, "text": choice.get("text") or ""})
        timings = answer.get("timings") or {}
        tokens += max(0, timings.get("predicted_n", 0) - 1)
        spent += timings.get("predicted_ms", 0.0) / 1000
    return found, tokens / spent if spent > 0 and tokens else None


def _chat_tokens(server: Any, asked: Mapping[str, Any]) -> int | None:
    """The number of tokens of the first conversation as llama.cpp renders it; ``None`` without one."""
    if not asked["messages"]:
        return None
    found = server.handle_chat_completions({"messages": asked["messages"], "max_tokens": 1})
    count = (found.get("usage") or {}).get("prompt_tokens")
    return -1 if count is None else int(count)


if __name__ == "__main__":
    sys.exit(main())
