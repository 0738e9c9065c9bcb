"""Prompts with a common beginning: it is computed once, and every answer is that of its prompt alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from studio.training.answer.generate import Answer, common_beginning, greedy_answers
from tests.studio.training.gguf_models import noisy_model
from tests.tiny import make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")

SHARED = list(range(20, 40))
PROMPTS = [[*SHARED, *rest] for rest in ([5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6], [14, 15, 16])]


def model_of(family: str) -> Any:
    """A tiny model whose weights are noise."""
    with torch.random.fork_rng():
        model = noisy_model(family, seed=11, noise=0.3, dtype=torch.float64)
    model.generation_config.eos_token_id = 2
    return model.eval()


def answers(model: Any, prompts: list[list[int]]) -> tuple[list[Answer], int]:
    """The answers, and how many tokens went through the model for them."""
    seen = 0

    def count(module: Any, given: Any, named: Any) -> None:
        nonlocal seen
        ids = named["input_ids"] if "input_ids" in named else given[0]
        seen += ids.numel()

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    found = greedy_answers(
        model,
        make_tiny_tokenizer(),
        prompts,
        max_new_tokens=6,
        batch_size=2,
        check=lambda: None,
        progress=lambda done: None,
    )
    handle.remove()
    return found, seen


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2", "gemma", "gemma3", "phi3"])
def test_answers_are_those_of_each_prompt_alone(family: str) -> None:
    model = model_of(family)
    together, _ = answers(model, PROMPTS)
    alone = [answers(model, [prompt])[0][0] for prompt in PROMPTS]
    assert together == alone
    assert len({a.text for a in alone}) > 1


def test_the_common_beginning_is_computed_once() -> None:
    model = model_of("llama")
    _, seen = answers(model, PROMPTS)
    rest = sum(len(p) - len(SHARED) for p in PROMPTS)
    assert len(SHARED) + rest <= seen < 2 * len(SHARED) + 50


def test_a_model_with_a_sliding_window_computes_every_prompt() -> None:
    """Its window would count the padding between the common beginning and the rest."""
    _, seen = answers(model_of("gemma3"), PROMPTS)
    assert seen > len(SHARED) * len(PROMPTS)


@pytest.mark.parametrize(
    ("prompts", "wanted"),
    [
        ([[1, 2, 3], [1, 2, 4]], [1, 2]),
        ([[1, 2], [1, 2, 4]], [1]),
        ([[1, 2], [1, 2]], [1]),
        ([[1, 2], [3, 2], [1, 2]], []),
        ([[1, 2, 3]], []),
        ([], []),
    ],
)
def test_the_last_token_of_a_prompt_is_never_shared(
    prompts: list[list[int]], wanted: list[int]
) -> None:
    assert common_beginning(prompts) == wanted
