"""Which layers a person means, and which weights belong to them."""

from __future__ import annotations

import pytest

from studio.model.whole import chosen_layers, layer_of


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ("all", None),
        ("last 2", {4, 5}),
        ("Last 99", {0, 1, 2, 3, 4, 5}),
        ("0-2, 5", {0, 1, 2, 5}),
        ("7", set()),
    ],
)
def test_words_for_layers(words: str, layers: set[int] | None) -> None:
    """Of a model with six layers."""
    assert chosen_layers(words, 6) == layers


@pytest.mark.parametrize("words", ["first 2", "1..3", "", "2-", "all,1"])
def test_other_words_are_refused(words: str) -> None:
    """Never taken for “all”."""
    with pytest.raises(ValueError):
        chosen_layers(words, 6)


def test_layers_of_weights() -> None:
    """In the naming of several families."""
    names = {
        "model.layers.12.mlp.up_proj.weight": 12,
        "transformer.h.3.attn.c_attn.weight": 3,
        "model.embed_tokens.weight": None,
        "lm_head.weight": None,
        "gpt_neox.layers.0.x.weight": 0,
    }
    assert {n: layer_of(n) for n in names} == names
