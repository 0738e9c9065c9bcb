"""The process in which transformers and PEFT read a model: ``python -m studio.training.export.parity.read_model``.

It gets one JSON object on standard input and answers in JSON lines: ``progress``, then ``found``. Log-probabilities
are written as ``NAME.npy`` (positions, vocabulary) into the folder ``out``. One model is in memory at a time.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.model.trust import may_run_code
from studio.training.answer.generate import left_padded
from studio.training.export.gguf_weights import permuted
from studio.training.export.parity.compare import difference
from studio.training.merge.dequantized import dequantizer
from studio.training.model.load import config_of, free_memory
from studio.training.model.quiet import quiet_libraries
from studio.values import ModelValue

_BATCH = 8
_TIMED = 16
"""Tokens that are generated one by one to measure the speed."""


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    asked = json.load(sys.stdin)
    quiet_libraries()
    torch.set_num_threads(int(asked["threads"]))
    tell(found=answer(asked))
    return 0


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the models of a request answer, or, with ``exported``, which known fault comes close to it."""
    return _diagnose(asked) if asked.get("exported") else _read(asked)


def tell(**message: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(message), flush=True)


# ------------------------------------------------------------------ reading


@torch.inference_mode()
def _read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Log-probabilities and generated tokens of each of the ``stages``, one after the other."""
    found: dict[str, Any] = {}
    model, loaded = None, ""
    for stage in asked["stages"]:
        if loaded != stage["model"]:
            del model
            free_memory()
            model, loaded = _loaded(stage["model"], asked, stage.get("quantized")), stage["model"]
        if stage["adapter"]:
            model, loaded = _adapted(model, stage["adapter"]), ""
        assert model is not None
        model.eval()
        name, out = stage["name"], Path(asked["out"])
        np.save(out / f"{name}.npy", _log_probabilities(model, asked["rows"]))
        np.save(out / f"{name}-embedding.npy", _embedding(model, asked["sample"]))
        own = _ends(model)
        ends = sorted({*own, *asked["ends"]}) if stage["trained"] else own
        found[name] = {
            "generated": _generated(model, asked, ends),
            "ends": own,
            "speed": _speed(model, asked) if stage.get("timed") else None,
        }
    return found


def _loaded(
    folder: str, asked: Mapping[str, Any], quantized: Mapping[str, Any] | None = None
) -> Any:
    """The model in a folder as plain transformers loads it; with ``quantized``, the description of the base of a
    training, with the weights of that training. Raises ``ValueError`` if weights are missing."""
    from transformers import AutoModelForCausalLM

    tell(progress="loading the model")
    path = Path(folder)
    device = str(asked["device"])
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config_of(path),
        dtype=getattr(torch, asked["dtype"]),
        local_files_only=True,
        trust_remote_code=may_run_code(path),
        output_loading_info=True,
        **({} if device == "cpu" else {"device_map": {"": device}}),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    if quantized:
        tell(progress="quantizing the model as in its training")
        weight = dequantizer(ModelValue.model_validate(quantized))
        for name, parameter in model.named_parameters():
            parameter.data = weight(name, parameter.data).to(parameter)
    return model


def _adapted(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter)


def _log_probabilities(model: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The log-probabilities of the token at each place, from the tokens before it: (positions, vocabulary)."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    keeps = "logits_to_keep" in inspect.signature(core.forward).parameters
    found = []
    for number, row in enumerate(rows):
        tell(progress="comparing", done=number, total=len(rows))
        before = [place - 1 for place in row["places"]]
        ids = torch.tensor([row["ids"][: before[-1] + 1]], device=model.device)
        chosen = torch.tensor(before, device=model.device)
        if keeps:
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=chosen).logits[0]
        else:
            logits = model(input_ids=ids, use_cache=False).logits[0, chosen]
        found.append(logits.float().log_softmax(-1).cpu().numpy())
    return np.concatenate(found)


def _embedding(model: Any, sample: Sequence[int]) -> Any:
    """The directions of the embedding of some tokens, (tokens, width): models scale them differently."""
    ids = torch.tensor(sample, device=model.device)
    rows = model.get_input_embeddings()(ids).float()
    return torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()


def _ends(model: Any) -> list[int]:
    """The tokens at which generation ends by the model's own files."""
    own = model.generation_config.eos_token_id
    return sorted({int(i) for i in (own if isinstance(own, list) else [own]) if i is not None})


def _generated(model: Any, asked: Mapping[str, Any], ends: list[int]) -> list[list[int]]:
    """The greedy tokens after each prompt, up to an end token."""
    prompts = asked["prompts"]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), _BATCH):
        numbers = order[start : start + _BATCH]
        tell(progress="generating answers", done=start, total=len(order))
        width = max(len(prompts[i]) for i in numbers)
        out = _greedy(model, asked, [prompts[i] for i in numbers], asked["new_tokens"], ends)
        for i, ids in zip(numbers, out[:, width:].tolist(), strict=True):
            stop = next((n for n, token in enumerate(ids) if token in ends), len(ids))
            found[i] = ids[:stop]
    return found


def _greedy(
    model: Any, asked: Mapping[str, Any], prompts: list[list[int]], count: int, ends: list[int]
) -> Any:
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=count,
        do_sample=False,
        use_cache=True,
        eos_token_id=ends or None,
        pad_token_id=asked["pad"],
    )
    batch = left_padded(prompts, asked["pad"], model.device)
    return model.generate(**batch, generation_config=config)


def _speed(model: Any, asked: Mapping[str, Any]) -> float | None:
    """Tokens per second for one prompt."""
    prompt = asked["prompts"][0]
    began = time.perf_counter()
    _greedy(model, asked, [prompt], 1, [])
    first = time.perf_counter()
    out = _greedy(model, asked, [prompt], 1 + _TIMED, [])
    spent = time.perf_counter() - first - (first - began)
    count = out.shape[1] - len(prompt) - 1
    return count / spent if spent > 0 and count > 0 else None


# ------------------------------------------------------------------ the likely cause


@torch.inference_mode()
def _diagnose(asked: Mapping[str, Any]) -> dict[str, float]:
    """How far the export is from the trained model with each known fault: mean divergence in nats, by code."""
    exported = np.load(asked["exported"])
    known = np.load(asked["known"]) if asked["known"] else None
    found: dict[str, float] = {}

    def measure(code: str, model: Any) -> None:
        rows = _log_probabilities(model.eval(), asked["rows"])
        kl = difference(rows, exported, known).kl_mean
        if math.isfinite(kl):
            found[code] = min(kl, found.get(code, kl))

    model = _loaded(asked["model"], asked, asked.get("quantized"))
    if asked["adapter"]:
        model = _adapted(model, asked["adapter"])
        for code, change in _faults(model):
            with change():
                measure(code, model)
        if not hasattr(model, "merge_and_unload"):
            return found
        model = model.merge_and_unload()
    for undo in _permutations(model):
        measure("qk_permuted", model)
        undo()
    return found


Change = Callable[[], Any]


def _faults(model: Any) -> Iterator[tuple[str, Change]]:
    """Known faults of an adapter: a code, and a context in which the model has it."""
    layers = [
        m
        for m in model.modules()
        if isinstance(getattr(m, "scaling", None), dict) and "default" in m.scaling
    ]
    config = model.peft_config["default"]
    rank, alpha = getattr(config, "r", 0) or 0, getattr(config, "lora_alpha", 0) or 0
    if layers:
        yield "double_merge", lambda: _scaled(layers, lambda scale, _: 2 * scale)
        lost: list[Callable[[float, int], float]] = [lambda _, __: 1.0, lambda _, r: 8 / r]
        if rank:
            lost.append(lambda _, r: alpha / r)
            lost.append(lambda _, __: alpha / rank)
            lost.append(lambda _, r: 1 / math.sqrt(r))
        for change in lost:
            if any(
                not math.isclose(change(m.scaling["default"], m.r["default"]), m.scaling["default"])
                for m in layers
            ):
                yield "alpha_lost", lambda change=change: _scaled(layers, change)  # type: ignore[misc]
    wrappers = _wrappers(model)
    if wrappers:
        yield "modules_lost", lambda: _without(wrappers)


@contextmanager
def _scaled(layers: Sequence[Any], change: Callable[[float, int], float]) -> Iterator[None]:
    before = [layer.scaling["default"] for layer in layers]
    for layer in layers:
        layer.scaling["default"] = change(layer.scaling["default"], layer.r["default"])
    yield
    for layer, scale in zip(layers, before, strict=True):
        layer.scaling["default"] = scale


def _wrappers(model: Any) -> list[Any]:
    from peft.utils.other import AuxiliaryTrainingWrapper

    return [m for m in model.modules() if isinstance(m, AuxiliaryTrainingWrapper)]


@contextmanager
def _without(wrappers: Sequence[Any]) -> Iterator[None]:
    for wrapper in wrappers:
        wrapper.enable_adapters(False)
    yield
    for wrapper in wrappers:
        wrapper.enable_adapters(True)


def _permutations(model: Any) -> Iterator[Callable[[], None]]:
    """Change the order of the rows of Q and K as a wrong conversion does; each item undoes it."""
    config = model.config
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    shared = int(getattr(config, "num_key_value_heads", 0) or heads)
    pairs = [
        (m, heads if name.endswith("q_proj") else shared)
        for name, m in model.named_modules()
        if name.endswith(("q_proj", "k_proj")) and hasattr(m, "weight")
    ]
    if not pairs or not heads:
        return
    for order in ("forgotten", "twice", "swapped"):
        before = [{n: p.data for n, p in m.named_parameters(recurse=False)} for m, _ in pairs]
        for module, count in pairs:
            other = heads + shared - count
            for parameter in module.parameters(recurse=False):
                parameter.data = _reordered(parameter.data, order, count, other)

        def undo(before: list[dict[str, Any]] = before) -> None:
            for (module, _), values in zip(pairs, before, strict=True):
                for name, parameter in module.named_parameters(recurse=False):
                    parameter.data = values[name]

        yield undo


def _reordered(rows: torch.Tensor, order: str, heads: int, other: int) -> torch.Tensor:
    """The rows that a program reads which expects those of ``permuted`` with this number of heads."""
    if order == "twice":
        return permuted(rows, heads)
    if order == "swapped":
        rows = permuted(rows, other) if rows.shape[0] % (2 * other) == 0 else rows
    half = rows.shape[0] // heads // 2
    parts = rows.reshape(heads, half, 2, *rows.shape[1:])
    return parts.transpose(1, 2).reshape(rows.shape)


if __name__ == "__main__":
    sys.exit(main())
