"""Greedy generation for many prompts, in batches.

An evaluation compares two models, so both must be prompted in exactly the same way. Prompts are
sorted by length to reduce padding, a batch ends when all its answers have ended, and a run can be
stopped at every token. What all prompts begin with, such as a system message and an instruction, is
computed once, where the model keeps the keys and values of all tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

from studio.training.tokens.ends import turn_end_id

LEAST_SHARED = 8
"""The common beginning of prompts is kept from this many tokens on."""


class Answer(NamedTuple):
    """A generated text; ``cut`` if it reached the maximum length before its end."""

    text: str
    cut: bool = False


class EachToken(StoppingCriteria):
    """Calls ``check`` at every token, which may raise to stop."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self._check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def new_tokens(prompts: Sequence[Sequence[int]], wanted: int, limit: int | None) -> int:
    """The maximum length of an answer to ``prompts``, at most ``wanted``.

    ``limit`` is the number of positions that the model has learned: beyond them a GPU aborts the
    process.
    """
    return wanted if limit is None else min(wanted, limit - max(len(p) for p in prompts))


@torch.inference_mode()
def greedy_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    check: Callable[[], None],
    progress: Callable[[int], None],
    limit: int | None = None,
) -> list[Answer]:
    """The generated text for each prompt, without special tokens.

    ``progress(rows done)`` is called after each batch. A prompt that leaves no room below ``limit``
    (``new_tokens``) gets an empty answer.
    """
    model.eval()
    asked = [i for i, p in enumerate(prompts) if new_tokens([p], 1, limit) > 0]
    order = sorted(asked, key=lambda i: len(prompts[i]))
    answers = [Answer("")] * len(prompts)
    ends = end_ids(model, tokenizer)
    shared = common_beginning([prompts[i] for i in order])
    kept = keys_and_values(model, shared) if len(shared) >= LEAST_SHARED else None
    if kept is None:
        shared = []
    for start in range(0, len(order), batch_size):
        check()
        numbers = order[start : start + batch_size]
        rows = [prompts[i] for i in numbers]
        config = GenerationConfig(
            max_new_tokens=new_tokens(rows, max_new_tokens, limit),
            do_sample=False,
            use_cache=True,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        batch = padded_behind(shared, rows, tokenizer.pad_token_id, model.device)
        if kept is not None:
            batch["past_key_values"] = copy.deepcopy(kept)
            batch["past_key_values"].batch_repeat_interleave(len(rows))
        out = model.generate(
            **batch,
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([EachToken(check)]),
        )
        new = out[:, batch["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        for i, text, ids in zip(numbers, texts, new.tolist(), strict=True):
            answers[i] = Answer(text, cut=not set(ends).intersection(ids))
        progress(start + len(numbers))
    return answers


def common_beginning(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all ``prompts`` begin with, without the last token of any of them: what comes after them has to
    be computed for each. Empty for a single prompt."""
    if len(prompts) < 2:
        return []
    first, last = (
        min(map(list, prompts)),
        max(map(list, prompts)),
    )  # in order: all others are between them
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return [token for token, _ in same][: min(map(len, prompts)) - 1]


def keys_and_values(model: Any, ids: Sequence[int]) -> DynamicCache | None:
    """Keys and values of ``ids`` in every layer; ``None`` where a layer keeps something else, such as those of the
    last tokens only or the state of a recurrence."""
    cache = DynamicCache(config=model.config.get_text_config())
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    try:
        found = model(
            input_ids=torch.tensor([list(ids)], device=model.device),
            past_key_values=cache,
            use_cache=True,
        ).past_key_values
    except (TypeError, ValueError, AttributeError):
        return None
    complete = isinstance(found, DynamicCache) and found.get_seq_length() == len(ids)
    return found if complete else None


def left_padded(rows: Sequence[Sequence[int]], pad_id: int, device: Any) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask``, each (batch, longest row)."""
    return padded_behind([], rows, pad_id, device)


def padded_behind(
    shared: Sequence[int], rows: Sequence[Sequence[int]], pad_id: int, device: Any
) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask``, each (batch, longest row): rows that begin with ``shared``, padded behind
    it, on the left if it is empty."""
    width = max(len(r) for r in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    first = len(shared)
    for i, row in enumerate(rows):
        for part, place in ((row[:first], 0), (row[first:], width - len(row) + first)):
            ids[i, place : place + len(part)] = torch.tensor(part, dtype=torch.long)
            mask[i, place : place + len(part)] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the model, the tokenizer and the chat template."""
    own = model.generation_config.eos_token_id
    found = own if isinstance(own, list) else [own]
    found = [*found, tokenizer.eos_token_id, turn_end_id(tokenizer)]
    return sorted({int(i) for i in found if i is not None})
