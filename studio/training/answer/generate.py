"""Greedy generation for many prompts, in batches.

An evaluation compares two models, so both must be prompted in exactly the same way. Prompts are
sorted by length to reduce padding, a batch ends when all its answers have ended, and a run can be
stopped at every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from studio.training.tokens.ends import turn_end_id


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
        batch = left_padded(rows, tokenizer.pad_token_id, model.device)
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


def left_padded(rows: Sequence[Sequence[int]], pad_id: int, device: Any) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask``, each (batch, longest row)."""
    width = max(len(r) for r in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the model, the tokenizer and the chat template."""
    own = model.generation_config.eos_token_id
    found = own if isinstance(own, list) else [own]
    found = [*found, tokenizer.eos_token_id, turn_end_id(tokenizer)]
    return sorted({int(i) for i in found if i is not None})
